"""The setting `serving`: how a policy chooses among the items that may be shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from prefrec_ray.settings import Settings

#: `variety` where no log says whether people tire: never far off (docs/results/recipe.md).
UNSAID = 5.0
#: From here on `variety` says that people tire: logs of those who do not say 1 to 1.4, of those who do 6 and more.
TIRED = 3.0


class ServingSettings(Settings):
    """A policy is a distribution over the items that may be shown (policy/distribution.py)."""

    rule: Literal["sample", "best"] = Field(
        default="sample", description="draw items by their scores, or show those of the largest"
    )
    candidates: Literal["nearest", "catalogue", "logged"] = Field(
        default="catalogue",
        description="the nearest to the actor's action, all alike, or all, as likely as the log shows each",
    )
    temperature: PositiveFloat = Field(
        default=0.2,
        strict=True,
        description="of `sample`: scores are divided by so many of their standard deviations",
    )
    variety: Annotated[float, Field(ge=0, strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="standard deviations of Q taken off an item that is all that was shown lately; "
        "`auto`: as the log says, 5 where it does not say",
    )
    count: PositiveInt = Field(default=64, strict=True, description="number of `nearest` candidates")
    metric: Literal["nearest", "dot"] = Field(
        default="nearest", description="nearness by Euclidean distance, or by dot product"
    )

    @property
    def tired(self) -> bool:
        """Whether `variety`, a number, says that people tire."""
        return self.variety != "auto" and self.variety >= TIRED

    def resolved(self, said: float | None) -> ServingSettings:
        """The same with a number for `variety`: for `auto` what the log has `said`, `UNSAID` where it says nothing."""
        if self.variety != "auto":
            return self
        return self.model_copy(update={"variety": UNSAID if said is None else said})
