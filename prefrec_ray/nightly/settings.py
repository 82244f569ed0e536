"""The section `loop` of a YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from prefrec_ray.guard_rails import LOST
from prefrec_ray.settings import Count, Settings


class CanarySettings(Settings):
    """Size and duration of a canary."""

    share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.05, description="share of the users that a canary begins with"
    )
    days: Annotated[float, Field(ge=0.01, le=366)] = Field(
        default=3.0, description="days that count of each user, from the first recommendation during the canary on"
    )
    longest_days: Annotated[float, Field(gt=0, le=3660)] = Field(
        default=28.0, description="days after which a canary without a decision is withdrawn"
    )
    lost: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=LOST, description="share of the users who come back in their `days` that a canary may lose"
    )
    explore: bool = Field(default=False, description="also begin a canary for a policy with the verdict `inconclusive`")

    @property
    def logged_days(self) -> float:
        """Return the days of the log that the last look needs: levels refer to the days before the canary."""
        return self.days + self.longest_days


class LoopSettings(Settings):
    """The folder of the loop, the release of policies, and the nights that are kept."""

    folder: str = Field(description="folder or URI of the nights and of the alias `current`")
    keep: Count = Field(
        default=7, description="nights with files that are kept, in addition to the current and the previous policy"
    )
    release: Literal["canary", "promote", "none"] = Field(
        default="canary",
        description="what a candidate becomes: a canary, which needs an event log; the current policy at once; or "
        "nothing: a night only evaluates",
    )
    canary: CanarySettings = Field(default=CanarySettings(), description="size and duration of a canary")
    average: Count = Field(
        default=6,
        description="a policy serves by the mean Q of this many promoted nights, itself included; 1: its own Q",
    )
    compact_days: Annotated[float, Field(ge=1, le=3660)] | None = Field(
        default=None,
        description="days without a write after which files of the event log become Parquet; null: never",
    )
    accept: tuple[PositiveInt, ...] = Field(
        default=(), description="refused nights with impressions that are used anyway"
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        if isinstance(value, dict) and "promote" in value:
            raise ValueError("found the key 'promote'; expected its new name 'release' (canary, promote or none)")
        return value
