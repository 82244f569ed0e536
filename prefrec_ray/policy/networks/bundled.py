"""Files of a policy bundle: the schema of policy.json, and networks as arrays and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import MinLen
from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.serving import Scale, ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy.networks.actors import Actor, BoundedGaussianActor, DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.candidates import CandidateActor
from prefrec_ray.policy.networks.layers import Layers, Mlp, to_array
from prefrec_ray.settings import Settings

SCHEMA_VERSION = 4
_KINDS = (DeterministicActor, GaussianActor, BoundedGaussianActor, CandidateActor)
ACTORS: dict[str, type[Actor]] = {actor.kind: actor for actor in _KINDS}


class _Section(Settings):
    model_config = ConfigDict(strict=True)


class AnswersDescription(_Section):
    """Shape of the network of expected feedback, and the weight of each kind of feedback."""

    layer_sizes: Annotated[list[PositiveInt], MinLen(2)]
    products: list[list[NonNegativeInt]]
    worth: list[Annotated[float, Field(ge=-1e15, le=1e15)]]  # of scores, whose squares are float32

    @model_validator(mode="after")
    def _a_worth_each(self) -> Self:
        if len(self.worth) != self.layer_sizes[-1]:
            raise ValueError(
                f"worth: found {len(self.worth)} numbers; expected {self.layer_sizes[-1]}, one per kind of feedback"
            )
        return self


class CriticDescription(_Section):
    """Shape of the file critic."""

    layer_sizes: list[Annotated[list[PositiveInt], MinLen(2)]]
    products: list[list[NonNegativeInt]]
    rescaled: bool = False
    kind_effects: list[NonNegativeInt] = Field(default=[])
    answers: AnswersDescription | None = None


class ActorDescription(_Section):
    """Shape of the file actor."""

    kind: str
    layer_sizes: dict[str, Annotated[list[PositiveInt], MinLen(2)]]
    low: list[FiniteFloat]
    high: list[FiniteFloat]

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        with np.errstate(over="ignore"):
            low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        if (len(low) == len(high) and not (low < high).all()) or not np.isfinite([*low, *high]).all():
            raise ValueError("expected low < high, both in the range of float32")
        return self


class Description(_Section):
    """Contents of policy.json."""

    schema_version: int
    serving: ServingSettings
    state: StateDefinition
    normaliser: dict[str, Any]
    provenance: dict[str, Any]
    actor: ActorDescription
    critic: CriticDescription | None = None
    deviation: Scale | None = None


def save_actor(uri: str, actor: Actor) -> dict[str, Any]:
    """Write the arrays of `actor` to `uri`. Returns the other arguments of `load_actor`, for JSON."""
    networks = {name: part.layers for name, part in actor.parts.items() if isinstance(part, Mlp)}
    arrays = {name: to_array(part) for name, part in actor.parts.items() if isinstance(part, Tensor)}
    return {
        "kind": actor.kind,
        "layer_sizes": write_networks(uri, networks, arrays),
        "low": actor.low.tolist(),
        "high": actor.high.tolist(),
    }


def load_actor(uri: str, parsed: ActorDescription) -> Actor:
    """Load the result of `save_actor`.

    Raises `UserError` for a missing file, a file of other arrays, an unknown kind, and other widths than described.
    """
    kind = ACTORS.get(parsed.kind)
    if kind is None:
        raise UserError(f"{uri}: found an actor of kind '{parsed.kind}'; expected one of {', '.join(ACTORS)}")
    if set(parsed.layer_sizes) != set(kind.network_names):
        raise UserError(
            f"{uri}: an actor of kind '{kind.kind}' has the networks {', '.join(kind.network_names)}; "
            f"found {', '.join(parsed.layer_sizes)} in policy.json"
        )
    networks, arrays = read_networks(uri, parsed.layer_sizes, kind.arrays)
    parts = {**{name: Mlp.from_layers(layers) for name, layers in networks.items()}, **arrays}
    return kind.from_parts(parts, np.asarray(parsed.low, np.float32), np.asarray(parsed.high, np.float32))


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
    return {
        network: [layers[0][0].shape[1], *(len(bias) for _, bias in layers)] for network, layers in networks.items()
    }


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
