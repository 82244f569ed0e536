"""How far an estimator is off on those that know nothing: what its figures are to be held against."""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.evaluation.names import CONSTANT, IMITATION, RANDOM_ITEMS, shuffled
from prefrec_ray.evaluation.records import Record

#: They know nothing of the user; a policy's own shuffled actions still know which items are good for most.
BLIND = (shuffled(IMITATION), CONSTANT, RANDOM_ITEMS)


def placebo_bias(records: Sequence[Record]) -> dict[str, float]:
    """Of each blind negative control among the records of one task and estimator: gain / half-width.

    The half-width is that of its own 95 % interval. Beyond -1 to 1, differences of that size between policies mean
    nothing. Within them nothing is proved: an estimate that follows the log whoever is asked about is near for all.
    """
    return {
        record.subject: record.gain / (0.5 * (record.ci_high - record.ci_low))
        for record in records
        if record.subject in BLIND and record.ci_high > record.ci_low
    }
