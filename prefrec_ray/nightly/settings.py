"""The section `loop` of a YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from prefrec_ray.settings import Count, Settings


class LoopSettings(Settings):
    """Where nights are kept, and what may be promoted."""

    folder: str = Field(description="folder or URI of the nights and of the alias `current`")
    keep: Count = Field(default=7, description="nights whose files stay, beside the current one and the one before")
    promote: Literal["candidates", "none"] = Field(
        default="candidates", description="policies of the verdict `candidate`, or none: nights are judged and kept"
    )
    warm_start: bool = Field(
        default=False, description="a night trains the networks of the current policy on, instead of new ones"
    )
    average: Count = Field(
        default=6,
        description="promoted nights, this one among them, of those kept, whose mean Q a policy serves by; 1: its own",
    )
    compact_days: Annotated[float, Field(ge=1, le=3660)] | None = Field(
        default=None,
        description="days without a write after which files of the event log become Parquet; null: they stay",
    )
    accept: tuple[Annotated[NonNegativeInt, Field(ge=1)], ...] = Field(
        default=(), description="nights whose requests were refused, and are to be used all the same"
    )
