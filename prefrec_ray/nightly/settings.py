"""The section `loop` of a YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from prefrec_ray.settings import Count, Settings


class LoopSettings(Settings):
    """The folder of the loop, the rules of promotion, and the nights that are kept."""

    folder: str = Field(description="folder or URI of the nights and of the alias `current`")
    keep: Count = Field(
        default=7, description="nights with files that are kept, in addition to the current and the previous policy"
    )
    promote: Literal["candidates", "none"] = Field(
        default="candidates", description="policies with the verdict `candidate`, or none: a night only evaluates"
    )
    average: Count = Field(
        default=6,
        description="a policy serves by the mean Q of this many promoted nights, itself included; 1: its own Q",
    )
    compact_days: Annotated[float, Field(ge=1, le=3660)] | None = Field(
        default=None,
        description="days without a write after which files of the event log become Parquet; null: never",
    )
    accept: tuple[Annotated[NonNegativeInt, Field(ge=1)], ...] = Field(
        default=(), description="refused nights with impressions that are used anyway"
    )
