"""metadata.json: the contents of a prepared data set, and its settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from prefrec_ray.settings import Settings

SCHEMA_VERSION = 1


class Fatigue(Settings):
    """Estimate of fatigue from training users (engagement/fatigue.py).

    `variety` is the diversity penalty, None if the estimate is not precise; `error` is its standard error; `half_life`
    is in impressions.
    """

    variety: float | None
    error: float
    half_life: float


class Metadata(Settings):
    """metadata.json.

    `counts`: users, sessions, impressions and transitions, by split. `world`: settings of the simulator.

    `dropped`: rows of the log that are not impressions, by reason. `tiring`: None if the log is too small. `answers`:
    layer sizes of the network of expected feedback in answers.npz; None if the log has no feedback.
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
    tiring: Fatigue | None = None
    answers: list[int] | None = None

    @property
    def variety(self) -> float | None:
        """Return the diversity penalty from the log (serving setting `variety`), None if it is not determined."""
        return self.tiring.variety if self.tiring else None
