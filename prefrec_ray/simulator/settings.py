"""The section `simulate` of a YAML: the size of the log, and the laws of its world."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationInfo, field_validator, model_validator

from prefrec_ray.memory import check_need
from prefrec_ray.settings import Count, Seed, Settings

EMBEDDING_DIM = 8
#: Number of users that are drawn and simulated together.
BLOCK = 256
#: An exponent of e, and the standard deviation of a logarithm.
Exponent = Annotated[float, Field(ge=-50, le=50)]
Spread = Annotated[float, Field(ge=0, le=10)]
#: An amount added to exposure (float32) at each impression.
Amount = Annotated[float, Field(ge=0, le=10**6)]


class WorldSettings(Settings):
    """The laws of the platform. A clickbait degree is between 0 (nutritious) and 1; satisfaction is in (0, 1).

    Text instead of a mapping is the key `law`.
    """

    clickbait_slope: PositiveFloat = Field(default=3.0, description="degree = sigmoid(slope * embedding . direction)")
    tastes: Count = Field(
        default=1, description="groups of users, each with its own direction; directions are opposite in pairs"
    )

    # exposure = memory_discount * exposure - 2 (clickbait - 0.5) + noise;
    # satisfaction = sigmoid(sensitivity * exposure).
    memory_discount: float = Field(default=0.965, ge=0, lt=1, description="discount of past exposure, per impression")
    sensitivity: PositiveFloat = Field(default=0.12, description="sensitivity of satisfaction to exposure")
    sensitivity_spread: Spread = Field(default=0.15, description="standard deviation of its logarithm over users")
    innovation: Amount = Field(default=0.1, description="noise of exposure")

    # Seconds watched are log-normal. The location lies between the values of nutritious and clickbait items.
    watch_clickbait: Exponent = Field(default=5.0, description="logarithm of seconds of clickbait at full satisfaction")
    watch_nutritious: Exponent = Field(default=4.0, description="the same for nutritious items")
    watch_noise: Spread = Field(default=0.8, description="standard deviation of that logarithm")

    stay_base: Exponent = Field(default=0.0, description="log-odds that a session continues")
    stay_click: Exponent = Field(default=0.8, description="log-odds added by a click")
    stay_satisfaction: Exponent = Field(default=3.6, description="log-odds added by full satisfaction")

    gap_hours: float = Field(
        default=14.0,
        gt=0,
        le=24 * 366,
        description="hours to the median user's next session, at half satisfaction",
    )
    gap_spread: Spread = Field(default=0.5, description="standard deviation of its logarithm over users")
    gap_satisfaction: Exponent = Field(
        default=3.0, description="decrease of its logarithm from no to full satisfaction"
    )
    gap_noise: Spread = Field(default=0.5, description="standard deviation of its logarithm over sessions")

    slate: Count = Field(
        default=15, description="items from which the logging policy takes the largest strength * degree + noise"
    )
    strength: tuple[Exponent, Exponent] = Field(
        default=(-6.0, 10.0), description="strengths of the logging policy; below 0 it avoids clickbait"
    )
    regime_requests: tuple[Count, Count] = Field(
        default=(30, 120), description="impressions with one strength, with `regimes`"
    )

    # The rules, each off by default (simulator/crowd.py has their laws).
    no_repeats: bool = Field(default=False, description="rule: no user sees an item twice")
    tiring: Amount = Field(
        default=0.0, description="rule: exposure falls by this, times an item's similarity to recent items"
    )
    tiring_half_life: PositiveFloat = Field(
        default=20.0, description="impressions after which an item counts half in this similarity"
    )
    drift: NonNegativeFloat = Field(
        default=0.0, description="rule: radians per 100 impressions by which a user's direction turns"
    )
    new_items: NonNegativeFloat = Field(
        default=0.0, description="rule: share of the available items that is replaced per day"
    )
    available_share: float = Field(
        default=0.25, gt=0, le=1, description="share of all items that is available at a time, with `new_items`"
    )
    leaving: float = Field(
        default=0.0, ge=0, le=1, description="rule: probability that a session is the user's last, at no satisfaction"
    )
    law: str | None = Field(
        default=None,
        description="name of a [plug-in](add_a_method.md#plug-ins), or module:Class of [your own "
        "law](simulator.md#your-own-law), also as `world: NAME`; the other keys belong to the simulator's law",
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_law(cls, value: object) -> object:
        return {"law": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_law(self) -> Self:
        if self.law is not None and self.model_copy(update={"law": None}) != WorldSettings():
            raise ValueError("found 'law' with keys of the simulator's law; expected one of both")
        return self

    @field_validator("strength", "regime_requests")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("expected two ascending numbers")
        return value


class SimulateSettings(Settings):
    """The section `simulate`."""

    users: Count = Field(default=2000, description="number of users")
    requests: Count = Field(
        default=250, description="mean number of impressions per user; a user has 0.8 to 2 times this number"
    )
    items: Count = Field(default=1000, description="number of items")
    page: Count = Field(
        default=1, description="items of a [page](simulator.md#pages); `requests` counts the items that are examined"
    )
    seed: Seed = Field(default=0, description="seed of the world and its log")
    regimes: bool = Field(default=True, description="the strength of the logging policy changes within a history")
    truth: bool = Field(default=False, description="write the hidden satisfaction, as a reward column")
    shards: Count = Field(default=8, description="files; at most one per block of 256 users")
    world: WorldSettings = Field(default=WorldSettings(), description="laws of users and rules of the platform")

    @property
    def available(self) -> int:
        """Return the number of items that are available at a time."""
        return max(1, round(self.world.available_share * self.items)) if self.world.new_items else self.items

    @property
    def blocks(self) -> int:
        """Return the number of blocks of users; block b starts with user b * BLOCK."""
        return -(-self.users // BLOCK)

    def block_users(self, block: int) -> np.ndarray:
        """Return the user numbers of a block, int64."""
        return np.arange(block * BLOCK, min((block + 1) * BLOCK, self.users))

    @field_validator("users", "items", "requests")
    @classmethod
    def _fit_into_memory(cls, value: int, info: ValidationInfo) -> int:
        """Check that memory holds one row per user and per item, and the impressions of a block of users."""
        numbers = EMBEDDING_DIM * (BLOCK if info.field_name == "requests" else 1)
        check_need(4 * numbers * value, f"{value:,} {info.field_name}")
        return value

    @model_validator(mode="after")
    def _enough_items(self) -> Self:
        if self.page > self.available:
            raise ValueError(f"expected a page of at most {self.available} items; found {self.page}")
        if self.world.no_repeats and self.available < 2 * self.requests:
            raise ValueError(
                f"with no_repeats expected at least {2 * self.requests} available items, twice the impressions; "
                f"found {self.available}"
            )
        return self
