"""Inputs of a verdict: one policy on one task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.evaluation.results.names import BLIND, LOGGING_POLICY, shuffled
from prefrec_ray.evaluation.results.records import GuardRailRecord, Record, ServedItems, SpecificationRecord, Support
from prefrec_ray.evaluation.results.scores import error_of_kinds
from prefrec_ray.guard_rails import Status
from prefrec_ray.settings import Task

#: A policy serves the same items to all users if CONCENTRATED of its impressions are of FEW_ITEMS items, and the
#: logging policy's most frequent items have less than half of this share. A log does not show the effect on users after
#: hours.
FEW_ITEMS, CONCENTRATED = 10, 0.9
#: Loss in the measure that the task does not count, as a share of the logging policy's value. With this loss the
#: verdict is inconclusive.
COST = 0.25
#: Fields of a record in the users' own units.
OWN_UNITS = {"mean_revisit_hours": "h to the next session", "mean_depth": "impressions per session"}
#: Task -> the measure that it does not count, and 1 if more of it is better, else -1.
_UNCOUNTED: dict[Task, tuple[str, int]] = {"depth": ("mean_revisit_hours", -1), "frequency": ("mean_depth", 1)}


@dataclass(frozen=True)
class Case:
    """Inputs of a verdict.

    `record`: the estimate, or None if it is missing. `peers`: all records of the same task
    and estimator.
    """

    policy: str
    record: Record | None = None
    peers: Sequence[Record] = ()
    support: Support | None = None
    served: ServedItems | None = None
    logged: ServedItems | None = None
    specification: Sequence[SpecificationRecord] = ()
    rails: Sequence[GuardRailRecord] = ()

    def rails_that_are(self, status: Status) -> list[GuardRailRecord]:
        return [rail for rail in self.rails if rail.status == status]

    @property
    def converged(self) -> bool:
        """Return whether the intervals are finite and, without a model's own error, inside the range of a level."""
        record = self.record
        if record is None:
            return False
        numbers = (record.value, record.ci_low, record.ci_high, *record.gain_interval)
        return all(map(math.isfinite, numbers)) and not record.reaches_end

    @property
    def misspecified(self) -> SpecificationRecord | None:
        """Return the test of the best model if every model of users is rejected; None otherwise."""
        if self.record is None or self.record.estimator != "model" or not all(t.rejected for t in self.specification):
            return None
        return min(self.specification, key=lambda test: test.r2, default=None)

    @property
    def logging(self) -> Record | None:
        """Return the logging policy's record by the same estimator, or None."""
        return next((record for record in self.peers if record.subject == LOGGING_POLICY), None)

    @property
    def unlike_logged(self) -> bool:
        """Return whether most of its pages have more items of one kind than 99 % of logged pages."""
        return self.support is not None and self.support.composition is not None and self.support.composition < 0.5

    @property
    def undetermined(self) -> bool:
        """Return whether the gain's interval contains 0 only because of errors of the models of users.

        More users do not reduce these errors.
        """
        record = self.record
        if record is None or self.support is None or record.estimator != "model":
            return False
        low, high = record.gain_interval
        return low <= 0 <= high and abs(record.gain) > of_users(record)

    @property
    def miss(self) -> float:
        """Return the distance of the logging policy's estimated level from its logged level, or 0 if unknown."""
        record = self.record
        return 0.0 if record is None else abs(record.behaviour - record.number("logged_level", record.behaviour))

    @property
    def cost(self) -> str | None:
        """Describe a loss in the measure that the task does not count; None below a share of `COST`."""
        if self.record is None or self.record.task not in _UNCOUNTED:
            return None
        key, sign = _UNCOUNTED[self.record.task]
        own, logged = getattr(self.record, key), getattr(self.logging, key, None)
        if own is None or logged is None or sign * (own - logged) >= -COST * logged:
            return None
        return f"{own:,.1f} {OWN_UNITS[key]} instead of {logged:,.1f}"

    @property
    def concentrated(self) -> bool:
        """Return whether ten items take most of its impressions, and the logging policy is not as concentrated."""
        if self.served is None or self.served.concentration(FEW_ITEMS) < CONCENTRATED:
            return False
        return self.logged is None or self.logged.share_of(FEW_ITEMS) <= self.served.share_of(FEW_ITEMS) / 2

    def title_of(self, control: Record) -> str:
        """Return the title of a negative control in the policy's row."""
        return "own actions shuffled" if control.subject == shuffled(self.policy) else control.title

    @property
    def control(self) -> Record | None:
        """Return the negative control with the largest gain."""
        return max(self.controls, key=lambda record: record.gain, default=None)

    @property
    def least_control(self) -> Record | None:
        """Return the negative control with the smallest gain."""
        return min(self.controls, key=lambda record: record.gain, default=None)

    @property
    def controls(self) -> list[Record]:
        """Return the blind negative controls and the policy's own shuffled actions.

        Under `model` the shuffled actions are excluded: an item that is good for all users is good for other users too.
        """
        own = () if self.record is not None and self.record.estimator == "model" else (shuffled(self.policy),)
        models = 0 if self.record is None else len(self.record.gains_by_model)
        controls = [record for record in self.peers if record.subject in (*BLIND, *own)]
        # Reports join evaluations, which may have other numbers of models.
        return [record for record in controls if len(record.gains_by_model) == models]


def of_users(record: Record) -> float:
    """Return the distance of a gain from the end of its interval towards 0, without the errors of models, in levels."""
    error = record.number("relative_error") * record.gain
    kinds = float(error_of_kinds(np.array(record.gains_by_model)))
    end = record.gain_interval[0 if record.gain > 0 else 1]
    return math.sqrt(max((record.gain - end) ** 2 - error**2 - kinds**2, 0.0))
