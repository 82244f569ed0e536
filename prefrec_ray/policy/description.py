"""Schema of policy.json, the description of a policy bundle."""

from __future__ import annotations

from typing import Annotated, Any, Self

from annotated_types import MinLen
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from prefrec_ray.mdp.serving import Scale, ServingSettings
from prefrec_ray.settings import Settings

SCHEMA_VERSION = 3


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
    """Shape of critic.npz."""

    layer_sizes: list[Annotated[list[PositiveInt], MinLen(2)]]
    products: list[list[NonNegativeInt]]
    rescaled: bool = False
    kind_effects: list[NonNegativeInt] = Field(default=[])
    answers: AnswersDescription | None = None


class Description(_Section):
    """Contents of policy.json."""

    schema_version: int
    serving: ServingSettings
    state: dict[str, Any]
    normaliser: dict[str, Any]
    provenance: dict[str, Any]
    actor: dict[str, Any]  # networks.bundled.ActorDescription
    critic: CriticDescription | None = None
    deviation: Scale | None = None
