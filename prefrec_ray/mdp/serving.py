"""Setting `serving`: how a policy chooses among the items that are not excluded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PositiveInt

from prefrec_ray.mdp.excluded import RestDays, rest_ms
from prefrec_ray.mdp.exposure import MEMORY
from prefrec_ray.settings import Settings

#: What orders items: Q, or the expected feedback that explains Q best (policy/networks/expected_feedback.py).
Scores: TypeAlias = Literal["q", "feedback"]
#: Values of `auto` before roll-outs have chosen (evaluation/selection/serving_rule.py), and if histories are too short
#: for roll-outs: draws neither greedy nor even, and a penalty of the size of the differences between good items.
UNCHOSEN: Mapping[str, Any] = {
    "temperature": 0.2,
    "variety": 1.0,
    "repetition": 0.0,
    "repetition_window": 30,
    "scores": "q",
}
#: A scale of scores, in their own units. Scores are float32, so that below 1e-6 rounding errors would be divided.
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]


class ServingSettings(Settings):
    """Choice of items by a policy, as a distribution over the items that are not excluded (policy/distribution.py)."""

    rule: Literal["sample", "best"] = Field(
        default="sample", description="`sample`: by softmax of scores; `best`: highest scores"
    )
    candidates: Literal["nearest", "catalogue"] = Field(
        default="catalogue", description="items near the actor's action, or all items"
    )
    temperature: Annotated[Scale, Field(strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="of the softmax, in standard deviations of the scores; `auto`: chosen by roll-outs after training",
    )
    variety: Annotated[float, Field(ge=0, le=1e6, strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="diversity penalty on items similar to recent items, in standard deviations of the scores; `auto`: "
        "chosen by roll-outs after training",
    )
    repetition: Annotated[float, Field(ge=0, le=1e6, strict=True)] | Literal["auto"] = Field(
        default="auto",
        description="repetition penalty per recent impression of the same kind (cluster, category, maker), in standard "
        "deviations of the scores; `auto`: chosen by roll-outs after training",
    )
    repetition_window: Annotated[int, Field(ge=1, le=MEMORY, strict=True)] | Literal["auto"] = Field(
        default="auto", description="number of recent impressions that the repetition penalty counts"
    )
    scores: Scores | Literal["auto"] = Field(
        default="auto",
        description="`q`, or the expected `feedback` that explains Q best; `auto`: chosen by roll-outs after training",
    )
    count: PositiveInt = Field(default=64, strict=True, description="number of `nearest` candidates")
    rest_days: RestDays | Literal["auto"] = Field(
        default="auto",
        description="days after an impression in which a user is not shown the item again, or `forever`; `auto`: as in "
        "the log",
    )

    @property
    def automatic(self) -> bool:
        """Return True if roll-outs choose at least one setting. If `repetition` is 0, its window is not chosen."""
        unused = {"repetition_window"} if self.repetition == 0 else set()
        return any(getattr(self, name) == "auto" for name in UNCHOSEN.keys() - unused)

    def rest_ms(self, otherwise: float = math.inf) -> float:
        """Return the rest of items in ms, infinite for `forever`, and `otherwise` for `auto`."""
        return otherwise if self.rest_days == "auto" else rest_ms(self.rest_days)

    def resolved(self) -> ServingSettings:
        """Return a copy with the values of `UNCHOSEN` instead of `auto`; the rest depends on a log and is kept."""
        return self.model_copy(update={name: v for name, v in UNCHOSEN.items() if getattr(self, name) == "auto"})
