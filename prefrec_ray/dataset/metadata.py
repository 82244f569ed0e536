"""metadata.json: what a prepared data set holds, and the settings that made it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from prefrec_ray.settings import Settings

SCHEMA_VERSION = 1


class Metadata(Settings):
    """metadata.json. `counts`: users, sessions, requests and transitions, by split. `world`: settings of the simulator.

    `dropped`: rows of the log that are in no request, by reason.
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
