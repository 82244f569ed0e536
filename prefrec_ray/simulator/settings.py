"""The section `simulate` of a YAML: the size of the log, and the laws of its world."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from prefrec_ray.settings import Count, Seed, Settings

EMBEDDING_DIM = 8
#: An exponent of e, and the standard deviation of a logarithm.
Exponent = Annotated[float, Field(ge=-50, le=50)]
Spread = Annotated[float, Field(ge=0, le=10)]


class WorldSettings(Settings):
    """The laws of the platform. A clickbait degree is between 0 (nutritious) and 1; satisfaction is in (0, 1)."""

    clickbait_slope: PositiveFloat = 3.0  # degree = sigmoid(slope * embedding . direction)
    tastes: Count = 1  # groups of users with their own directions, opposite in pairs (0 and 1, 2 and 3, ...)

    # exposure = memory_discount * exposure - 2 (clickbait - 0.5) + noise;
    # satisfaction = sigmoid(sensitivity * exposure).
    memory_discount: Annotated[float, Field(ge=0, lt=1)] = 0.965
    sensitivity: PositiveFloat = 0.12
    sensitivity_spread: Spread = 0.15  # of its logarithm, over users
    innovation: NonNegativeFloat = 0.1

    # Seconds watched: log-normal; the location is between those of nutritious and clickbait items, times satisfaction.
    watch_clickbait: Exponent = 5.0
    watch_nutritious: Exponent = 4.0
    watch_noise: Spread = 0.8

    # Log-odds that a session goes on: the sum of base, click and satisfaction terms.
    stay_base: Exponent = 0.0
    stay_click: Exponent = 0.8
    stay_satisfaction: Exponent = 3.6

    # Gap to the next session: log-normal around the user's typical gap.
    gap_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 14.0  # of the median user at a satisfaction of one half
    gap_spread: Spread = 0.5  # of its logarithm, over users
    gap_satisfaction: Exponent = 3.0  # by this the logarithm of the gap falls from no to full satisfaction
    gap_noise: Spread = 0.5

    # The logging policy serves the item of a random slate with the largest strength * clickbait + Gumbel noise.
    slate: Count = 15
    strength: tuple[float, float] = (-6.0, 10.0)  # its range; below 0 the policy avoids clickbait
    regime_requests: tuple[int, int] = (30, 120)  # number of requests with one strength, where regimes change

    # Rules, each off by default (simulator/rules.py has their laws).
    no_repeats: bool = False  # nobody is shown an item twice
    tiring: NonNegativeFloat = 0.0  # by so much times the likeness to what was just shown, an item lowers exposure
    tiring_half_life: PositiveFloat = 20.0  # in requests: for how long an item counts as just shown
    drift: NonNegativeFloat = 0.0  # by so many radians in 100 requests a user's direction of clickbait turns
    new_items: NonNegativeFloat = 0.0  # share of the available items that is replaced a day
    available_share: Annotated[float, Field(gt=0, le=1)] = 0.25  # of the items, at a time; where there are new ones
    leaving: Annotated[float, Field(ge=0, le=1)] = 0.0  # chance that a session is the last at no satisfaction

    @field_validator("strength", "regime_requests")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("expected two ascending numbers")
        return value

    @field_validator("regime_requests")
    @classmethod
    def _positive(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] < 1:
            raise ValueError("expected lengths of at least one request")
        return value


class SimulateSettings(Settings):
    """The section `simulate`."""

    users: Count = 2000
    requests: Count = 250  # mean per user; each user has between 0.8 and 2 times as many
    items: Count = 1000
    seed: Seed = 0
    regimes: bool = True  # whether the logging policy changes within a user's history
    truth: bool = False  # whether the hidden satisfaction after each request is written as a reward column
    shards: Count = 8  # files; at most one per block of users
    world: WorldSettings = WorldSettings()

    @property
    def available(self) -> int:
        """The number of items that are available at a time."""
        return max(1, round(self.world.available_share * self.items)) if self.world.new_items else self.items

    @model_validator(mode="after")
    def _enough_items(self) -> Self:
        if self.world.no_repeats and self.available < 2 * self.requests:
            raise ValueError(
                f"with no_repeats expected at least {2 * self.requests} available items, twice the requests; "
                f"found {self.available}"
            )
        return self
