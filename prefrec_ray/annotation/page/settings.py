"""The section `label` of a YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefrec_ray.preferences import PairCount
from prefrec_ray.settings import Count, Pairing, Seed, Settings

Share = Annotated[float, Field(ge=0, le=0.5)]


class LabelSettings(Settings):
    """The section `label`. `DRAWN` are fixed when the store is made; the others may change at every start."""

    pairs: PairCount = Field(default=1000, description="candidate pairs")
    held_out: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.1, description="share of pairs of validation users"
    )
    pairing: Pairing = Field(default="within_user", description="segments of one user, or of two")
    length: Count | None = Field(default=None, description="impressions in a segment; null: as in the data set")
    seed: Seed = Field(default=0, description="seed of pairs and sides")
    gold: Share = Field(default=0.1, description="share of questions with a clear label of the scripted teacher")
    repeats: Share = Field(default=0.05, description="share of questions asked again, with sides exchanged")
    votes: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="maximum number of votes on a pair")
    posterior: Annotated[float, Field(gt=0.5, le=1)] = Field(
        default=0.95, description="probability of the likeliest label at which a pair is decided"
    )
    budget: Count | None = Field(default=None, description="total number of votes; null: until all pairs are decided")
    rescore: Count = Field(default=20, description="votes between updates of reliabilities")
    lease_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = Field(
        default=15.0, description="minutes for which a pair on an annotator's screen is reserved"
    )
    invitation_days: Annotated[float, Field(gt=0, le=366)] = Field(
        default=14.0, description="lifetime of an invitation and its session"
    )
    guidelines: str | None = Field(default=None, description="Markdown file, shown next to the question")
    items: str | None = Field(default=None, description="CSV or Parquet file: item_id, title, picture")


#: Settings that are fixed when the store is made.
DRAWN = ("pairs", "held_out", "pairing", "length", "seed", "gold")
