"""MLPs as plain arrays, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: An MLP with ReLU: one pair (weight [out, in], bias [out]) float32 per layer, from the input on.
Layers: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]


def layer_sizes(layers: Layers) -> list[int]:
    """Return the widths from the input to the output."""
    return [layers[0][0].shape[1], *(len(bias) for _, bias in layers)]


def write_networks(
    uri: str, networks: Mapping[str, Layers], others: Mapping[str, np.ndarray] | None = None
) -> dict[str, list[int]]:
    """Write MLPs by name, and `others`, to the file `uri`; return the networks' layer sizes, for JSON.

    Raises `UserError` for a number that is not finite.
    """
    arrays: dict[str, np.ndarray] = {}
    for network, layers in networks.items():
        for i, (weight, bias) in enumerate(layers):
            arrays |= {f"{network}.{i}.weight": weight, f"{network}.{i}.bias": bias}
    arrays |= others or {}
    check_finite(arrays, uri)
    storage.write_arrays(uri, arrays)
    return {network: layer_sizes(layers) for network, layers in networks.items()}


def read_networks(
    uri: str, sizes: Mapping[str, Sequence[int]], others: Mapping[str, storage.Form] | None = None
) -> tuple[dict[str, Layers], dict[str, np.ndarray]]:
    """Return the MLPs with layer sizes `sizes` by name, and the arrays `others`.

    Raises `UserError` for a missing file, a file of other arrays, and a number that is not finite.
    """
    names = {name: [(f"{name}.{i}.weight", f"{name}.{i}.bias") for i in range(len(sizes[name]) - 1)] for name in sizes}
    forms = dict(others or {})
    for network, widths in sizes.items():
        for (weight, bias), (inputs, outputs) in zip(names[network], pairwise(widths), strict=True):
            forms |= {weight: (np.float32, (outputs, inputs)), bias: (np.float32, (outputs,))}
    arrays = storage.read_arrays(uri, forms)
    check_finite(arrays, uri)
    networks: dict[str, Layers] = {
        network: [(arrays.pop(weight), arrays.pop(bias)) for weight, bias in names[network]] for network in sizes
    }
    return networks, arrays


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raise `UserError`, which begins with `where`, for the first array with a number that is infinite or NaN."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{where}: '{name}' has numbers that are not finite ({array[~np.isfinite(array)][0]}); expected the"
                f" weights of a training that did not diverge"
            )
