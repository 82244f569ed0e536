"""MLPs as plain arrays: their sizes, their forward pass, and the files they lie in (npz, no pickle)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: An MLP with ReLU: (weight [out, in], bias [out]) float32 a layer, from the input on.
Layers: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]
_NAMES = ("weight", "bias")


def layer_sizes(layers: Layers) -> list[int]:
    """Widths from the input to the output. Raises `UserError` where the layers do not fit together."""
    if not layers:
        raise UserError("policy: a network has no layers")
    sizes = [layers[0][0].shape[-1]]
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or weight.shape[1] != sizes[-1] or bias.shape != weight.shape[:1]:
            raise UserError(
                f"policy: layer {i} has a weight {list(weight.shape)} and a bias {list(bias.shape)}; "
                f"expected {sizes[-1]} inputs and as many biases as outputs"
            )
        sizes.append(int(weight.shape[0]))
    return sizes


def write_networks(
    uri: str, networks: Mapping[str, Layers], arrays: Mapping[str, np.ndarray] | None = None
) -> dict[str, list[int]]:
    """Writes MLPs by name, and other `arrays`, to the file `uri`; returns the networks' layer sizes, for JSON.

    Raises `UserError` for a number that is not finite.
    """
    named = {
        f"{network}.{i}.{name}": array
        for network, layers in networks.items()
        for i, pair in enumerate(layers)
        for name, array in zip(_NAMES, pair, strict=True)
    }
    everything = {**named, **(arrays or {})}
    check_finite(everything, uri)
    storage.write_arrays(uri, everything)
    return {network: layer_sizes(layers) for network, layers in networks.items()}


def read_networks(uri: str, sizes: Mapping[str, Sequence[int]]) -> tuple[dict[str, Layers], dict[str, np.ndarray]]:
    """The MLPs by name, and what else lies in `uri`.

    Raises `UserError`: no such file, no plain arrays, arrays that are missing, of other sizes than `sizes` says, or
    with a number that is not finite.
    """
    arrays = storage.read_arrays(uri)
    check_finite(arrays, uri)
    names = {
        network: [tuple(f"{network}.{i}.{name}" for name in _NAMES) for i in range(len(widths) - 1)]
        for network, widths in sizes.items()
    }
    missing = sorted({name for pairs in names.values() for pair in pairs for name in pair} - set(arrays))
    if missing:
        raise UserError(f"{uri}: arrays {', '.join(missing)} are missing; policy.json has layers of {dict(sizes)}")
    networks: dict[str, Layers] = {
        network: [(arrays.pop(weight), arrays.pop(bias)) for weight, bias in pairs] for network, pairs in names.items()
    }
    for network, layers in networks.items():
        if layer_sizes(layers) != list(sizes[network]):
            raise UserError(f"{uri}: {network} of {layer_sizes(layers)} numbers; policy.json says {sizes[network]}")
    return networks, arrays


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises `UserError`, which `where` opens, for the first array with a number that is infinite or none at all."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(
                f"{where}: '{name}' has numbers that are not finite ({array[~np.isfinite(array)][0]}); expected the"
                f" weights of a training that did not diverge"
            )


def to_tensors(layers: Layers) -> list[tuple[Tensor, Tensor]]:
    """The arrays as tensors."""
    return [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in layers]


def forward(layers: Sequence[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    """The MLP's output [..., out] for inputs [..., in]."""
    hidden = inputs
    for i, (weight, bias) in enumerate(layers):
        hidden = nn.functional.linear(torch.relu_(hidden) if i else hidden, weight, bias)
    return hidden


def given_states(layers: Sequence[tuple[Tensor, Tensor]], states: Tensor) -> Callable[[Tensor], Tensor]:
    """The MLP on (states [n, S], others) as a function of the others, [n, X] or k of them for each state, [n, k, X].

    The first layer takes each state once, not once for each of many actions. For inference: sums are made in place, as
    new ones took most of the time of a choice, in memory had and given back.
    """
    (weight, bias), *rest = layers
    of_states, of_others = weight.split([states.shape[1], weight.shape[1] - states.shape[1]], dim=1)
    seen = nn.functional.linear(states, of_states, bias)

    def outputs(others: Tensor) -> Tensor:
        hidden = nn.functional.linear(others, of_others)
        hidden += seen if others.ndim == 2 else seen[:, None]
        return forward(rest, torch.relu_(hidden)) if rest else hidden

    return outputs
