"""metadata.json: the contents of a prepared data set, and its settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from prefrec_ray.settings import Settings

SCHEMA_VERSION = 1


class Metadata(Settings):
    """metadata.json.

    `counts`: users, sessions, impressions and transitions, by split. `world`: settings of the simulator.

    `dropped`: rows of the log that are not impressions, by reason. `answers`: layer sizes of the network of
    expected feedback in answers.npz; None if the log has no feedback.
    """

    schema_version: int
    counts: dict[str, dict[str, int]]
    state_dim: int
    action_dim: int
    action_low: float
    action_high: float
    state: dict[str, Any]
    normaliser: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    tasks: list[str]
    teachers: list[str]
    mixture_weight: float
    has_reward: bool = False
    has_propensity: bool = False
    given_sessions: bool = False
    world: dict[str, Any] | None = None
    dropped: dict[str, int] = Field(default_factory=dict)
    answers: list[int] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_fatigue(cls, data: Any) -> Any:
        """Remove the estimate of fatigue, which earlier versions wrote."""
        return {key: value for key, value in data.items() if key != "tiring"} if isinstance(data, dict) else data
