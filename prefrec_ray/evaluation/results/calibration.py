"""Bias of an estimator on negative controls, the scale for its other estimates."""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.evaluation.results.names import CONSTANT, IMITATION, RANDOM_ITEMS, shuffled
from prefrec_ray.evaluation.results.records import Record

#: They do not depend on the user. A policy's own shuffled actions still favor items that are good for most users.
BLIND = (shuffled(IMITATION), CONSTANT, RANDOM_ITEMS)


def placebo_bias(records: Sequence[Record]) -> dict[str, float]:
    """Return gain / half-width of each blind negative control among the records of one task and estimator.

    The half-width belongs to the control's 95 % interval. Beyond -1 to 1, differences of this size between policies are
    not evidence. Values inside prove nothing: an estimator that always returns the log's value is near 0 for all
    policies.
    """
    return {
        record.subject: record.gain / (0.5 * (record.ci_high - record.ci_low))
        for record in records
        if record.subject in BLIND and record.ci_high > record.ci_low
    }
