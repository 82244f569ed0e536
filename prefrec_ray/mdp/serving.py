"""Setting `serving`: how a policy chooses among the items that are not excluded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from prefrec_ray.settings import Settings

#: Diversity penalty if the log does not show fatigue or its absence: a compromise (docs/results/recipe.md).
UNSAID = 5.0
#: Smallest diversity penalty that counts as fatigue: logs without fatigue give 1 to 1.7, logs with fatigue 6 and more.
TIRED = 3.0
#: `temperature`, without and with fatigue: good items differ by only a part of the spread of expected feedback
#: (docs/results/recipe.md).
TEMPERATURE, TEMPERATURE_TIRED = 0.2, 0.1


#: A scale of scores, in their own units. Scores are float32, so that below 1e-6 rounding errors would be divided.
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]


class ServingSettings(Settings):
    """Choice of items by a policy, as a distribution over the items that are not excluded (policy/distribution.py)."""

    rule: Literal["sample", "best"] = Field(
        default="sample", description="`sample`: by softmax of scores; `best`: highest scores"
    )
    candidates: Literal["nearest", "catalogue", "logged"] = Field(
        default="catalogue",
        description="items near the actor's action; all items; all items, weighted by their frequency in the log",
    )
    temperature: Annotated[Scale, Field(strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="of the softmax, in standard deviations of the scores; `auto`: 0.1 with fatigue, else 0.2",
    )
    variety: Annotated[float, Field(ge=0, le=1e6, strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="diversity penalty on items similar to recent items, in standard deviations of Q; "
        "`auto`: estimated from the log, 5 if inconclusive",
    )
    count: PositiveInt = Field(default=64, strict=True, description="number of `nearest` candidates")
    metric: Literal["nearest", "dot"] = Field(
        default="nearest", description="nearness by Euclidean distance, or by dot product"
    )

    def people_tire(self, said: float | None) -> bool:
        """Return True if `variety` indicates fatigue; `auto` uses `said`, the value from the log (None: no fatigue)."""
        variety = said if self.variety == "auto" else self.variety
        return variety is not None and variety >= TIRED

    def resolved(self, said: float | None) -> ServingSettings:
        """Return a copy with numbers for `variety` (`auto`: `said`, the value from the log) and `temperature`."""
        variety, temperature = self.variety, self.temperature
        if variety == "auto":
            variety = UNSAID if said is None else said
        if temperature == "auto":
            temperature = TEMPERATURE_TIRED if self.people_tire(said) else TEMPERATURE
        return self.model_copy(update={"variety": variety, "temperature": temperature})
