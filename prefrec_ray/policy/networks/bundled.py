"""Files of a policy bundle: the schema of policy.json, and actors as arrays and JSON."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from annotated_types import MinLen
from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.serving import Scale, ServingSettings
from prefrec_ray.policy.networks.actors import Actor, BoundedGaussianActor, DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.arrays import read_networks, write_networks
from prefrec_ray.policy.networks.candidates import CandidateActor
from prefrec_ray.policy.networks.layers import Mlp, to_array
from prefrec_ray.settings import Settings

SCHEMA_VERSION = 4
#: Endings of the files of arrays by version.
ENDINGS = {3: "npz", SCHEMA_VERSION: "safetensors"}
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
    state: dict[str, Any]
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
