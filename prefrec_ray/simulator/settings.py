"""The section `simulate` of a YAML: how large the log is, and how its world works."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator

from prefrec_ray.settings import Count, Seed, Settings

EMBEDDING_DIM = 8
#: Of e; and the spread of a logarithm.
Exponent = Annotated[float, Field(ge=-50, le=50)]
Spread = Annotated[float, Field(ge=0, le=10)]


class WorldSettings(Settings):
    """The laws of the platform. A clickbait degree runs from 0 (nutritious) to 1; satisfaction lies in (0, 1)."""

    clickbait_slope: PositiveFloat = 3.0  # degree = sigmoid(slope * embedding . direction)
    tastes: Count = 1  # groups of users with directions of their own, opposite in pairs (0 and 1, 2 and 3, ...)

    # exposure = memory_discount * exposure - 2 (clickbait - 0.5) + noise;
    # satisfaction = sigmoid(sensitivity * exposure).
    memory_discount: Annotated[float, Field(ge=0, lt=1)] = 0.965
    sensitivity: PositiveFloat = 0.12
    sensitivity_spread: Spread = 0.15  # of its logarithm, over users
    innovation: NonNegativeFloat = 0.1

    # Seconds watched: log-normal, its location between that of nutritious and of clickbait items, times satisfaction.
    watch_clickbait: Exponent = 5.0
    watch_nutritious: Exponent = 4.0
    watch_noise: Spread = 0.8

    # Whether a session goes on: log-odds = base + click + satisfaction terms.
    stay_base: Exponent = 0.0
    stay_click: Exponent = 0.8
    stay_satisfaction: Exponent = 3.6

    # Gap to the next session: log-normal around each user's own typical gap.
    gap_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 14.0  # at a satisfaction of one half, the median user
    gap_spread: Spread = 0.5  # of its logarithm, over users
    gap_satisfaction: Exponent = 3.0  # the logarithm of the gap falls by this much from no to full satisfaction
    gap_noise: Spread = 0.5

    # The logging policy takes the best of a random slate by strength * clickbait + Gumbel noise.
    slate: Count = 15
    strength: tuple[float, float] = (-6.0, 10.0)  # below 0 it avoids clickbait
    regime_requests: tuple[int, int] = (30, 120)  # how long a strength holds, where regimes change

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
    requests: Count = 250  # the mean a user; each user has between 0.8 and 2 times as many
    items: Count = 1000
    seed: Seed = 0
    regimes: bool = True  # the logging policy changes within a user's history; else it is fixed for each user
    truth: bool = False  # write the hidden satisfaction after each request as a column, to train on as reward
    shards: Count = 8  # files; at most one a block of users
    world: WorldSettings = WorldSettings()
