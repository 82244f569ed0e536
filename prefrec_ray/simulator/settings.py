"""The section `simulate` of a YAML: the size of the log, and the laws of its world."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator, Field, NonNegativeFloat, ValidationInfo, field_validator, model_validator

from prefrec_ray import plugins
from prefrec_ray.memory import check_need
from prefrec_ray.settings import Count, Seed, Settings

EMBEDDING_DIM = 8
#: Number of users that are drawn and simulated together.
BLOCK = 256


class WorldSettings(Settings):
    """Rules of the platform, each off by default (simulator/crowd.py has their laws); or a law of its own.

    Text instead of a mapping is the key `law`.
    """

    tastes: Count = Field(default=1, description="groups of users with directions of their own, opposite in pairs")
    no_repeats: bool = Field(default=False, description="rule: no user sees an item twice")
    tiring: float = Field(default=0.0, ge=0, le=10**6, description="rule: loss of exposure by similar recent items")
    drift: NonNegativeFloat = Field(default=0.0, description="rule: turn of a direction, radians per 100 impressions")
    new_items: NonNegativeFloat = Field(default=0.0, description="rule: share of available items replaced per day")
    available_share: float = Field(default=0.25, gt=0, le=1, description="share of items available, with `new_items`")
    leaving: float = Field(
        default=0.0, ge=0, le=1, description="rule: probability that a session is the user's last, at no satisfaction"
    )
    law: Annotated[str, AfterValidator(lambda name: plugins.find("worlds", name, {}).name)] | None = Field(
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


class SimulateSettings(Settings):
    """The section `simulate`."""

    users: Count = Field(default=2000, description="number of users")
    requests: Count = Field(default=250, description="mean impressions per user, who has 0.8 to 2 times this number")
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
