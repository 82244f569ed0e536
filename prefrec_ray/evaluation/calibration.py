"""How far an estimator is off on those that know nothing: what its figures are to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray.evaluation.subjects import CONSTANT, IMITATION, RANDOM_ITEMS, shuffled

#: They know nothing of the user; a policy's own shuffled actions still know which items are good for most.
BLIND = (shuffled(IMITATION), CONSTANT, RANDOM_ITEMS)


def placebo_bias(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of each blind placebo among the records of one task and estimator: (value - behaviour) / half-width.

    The half-width is that of the placebo's own 95 % interval. Within -1 to 1 the bias is hidden by the users' own
    differences; beyond, differences of that size between policies mean nothing.
    """
    return {
        record["subject"]: (record["value"] - record["behaviour"]) / (0.5 * (record["ci_high"] - record["ci_low"]))
        for record in records
        if record["subject"] in BLIND and record["ci_high"] > record["ci_low"]
    }
