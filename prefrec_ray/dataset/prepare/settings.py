"""The section `prepare` of a YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefrec_ray.logs.sources import Source
from prefrec_ray.mdp.state import LEARNED_DIM
from prefrec_ray.preferences import PreferenceSettings
from prefrec_ray.settings import Count, Seed, Settings

Share = Annotated[float, Field(gt=0, lt=1)]


class PrepareSettings(Settings):
    """The section `prepare`: the log, and settings of its conversion to a data set."""

    source: Source = Field(description="the log: its kind, files and columns ([data](data.md))")
    like: str | None = Field(default=None, description="a data set whose states, items and splits this one shares")
    # At most a hundred years.
    session_gap_minutes: Annotated[float, Field(gt=0, le=100 * 366 * 24 * 60)] = Field(
        default=30.0, description="pause that ends a session, for logs without session ids"
    )
    action_dim: Count = Field(
        default=LEARNED_DIM, description="length of a learned item embedding; embeddings of the log keep their length"
    )
    mixture_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="weight of the depth level in the mixture level"
    )
    train_fraction: Share = Field(default=0.6, description="share of training users, by a hash of their ids")
    validation_fraction: Share = Field(default=0.1, description="share of validation users; the rest are test users")
    seed: Seed = Field(default=0, description="seed of splits, learned embeddings and pairs")
    preferences: PreferenceSettings = Field(
        default=PreferenceSettings(), description="pairs of segments; with `like`, drawn only if this key is set"
    )
    state_type: Literal["float32", "float16"] = Field(
        default="float32", description="type of stored states; float16 halves disk and object store"
    )
    partitions: Count | None = Field(
        default=None,
        description="files of each split; null: by the rows of the log, at most about 64 MiB of states in each",
    )

    @property
    def session_gap_ms(self) -> int:
        """Return `session_gap_minutes` in ms."""
        return round(self.session_gap_minutes * 60_000)

    @property
    def draws_preferences(self) -> bool:
        """Return True if pairs are drawn: always, unless `like` is set and `preferences` is not."""
        return self.like is None or "preferences" in self.model_fields_set

    @model_validator(mode="after")
    def _test_users_are_left(self) -> PrepareSettings:
        if self.train_fraction + self.validation_fraction >= 1:
            raise ValueError("train_fraction + validation_fraction must be less than 1: the rest are test users")
        return self
