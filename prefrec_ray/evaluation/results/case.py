"""Inputs of a verdict: one policy on one task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from prefrec_ray.evaluation.results.names import BLIND, LOGGING_POLICY, shuffled
from prefrec_ray.evaluation.results.records import (
    DIFFERENCE,
    GuardRailRecord,
    Record,
    ServedItems,
    SpecificationRecord,
    Support,
)
from prefrec_ray.evaluation.results.scores import Z, error_of_kinds
from prefrec_ray.guard_rails import Status

#: A policy serves the same items to all users if CONCENTRATED of its impressions are of FEW_ITEMS items, and the
#: logging policy's most frequent items have less than half of this share. A log does not show the effect on users after
#: hours.
FEW_ITEMS, CONCENTRATED = 10, 0.9
#: Loss in the measure that the task does not count, as a share of the logging policy's value. With this loss the
#: verdict is inconclusive.
COST = 0.25
#: Fields of a record in the users' own units.
OWN_UNITS = {"mean_revisit_hours": "h to the next session", "mean_depth": "impressions per session"}


@dataclass(frozen=True)
class Case:
    """Inputs of a verdict.

    `record`: the estimate, or None if it is missing. `peers`: all records of the same task
    and estimator. `policies`: number of policies with a verdict in the evaluation. `difference`: smallest gain that
    matters, in levels.
    """

    policy: str
    record: Record | None = None
    peers: Sequence[Record] = ()
    support: Support | None = None
    served: ServedItems | None = None
    logged: ServedItems | None = None
    specification: Sequence[SpecificationRecord] = ()
    rails: Sequence[GuardRailRecord] = ()
    policies: int = 1
    difference: float = DIFFERENCE

    def rails_that_are(self, status: Status) -> list[GuardRailRecord]:
        return [rail for rail in self.rails if rail.status == status]

    @property
    def estimator(self) -> str:
        """Return the estimator of the record; empty without a record."""
        return "" if self.record is None else self.record.estimator

    @property
    def gain(self) -> tuple[float, float, float]:
        """Return the estimated gain and the ends of its interval; NaN without a record."""
        if self.record is None:
            return math.nan, math.nan, math.nan
        return self.record.gain, *self.record.gain_interval

    @property
    def over_current(self) -> tuple[float, float, float] | None:
        """Return the gain over the current policy and the ends of its interval; None without a current policy."""
        record = self.record
        if record is None or record.gain_over_current is None or record.gain_over_current_ci is None:
            return None
        return record.gain_over_current, *record.gain_over_current_ci

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
        if self.estimator != "model" or not all(t.rejected for t in self.specification):
            return None
        return min(self.specification, key=lambda test: test.r2, default=None)

    @property
    def logging(self) -> Record | None:
        """Return the record of the logged items by the same estimator, or None."""
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
        gain, low, high = self.gain
        if self.record is None or self.estimator != "model":
            return False
        return low <= 0 <= high and abs(gain) > of_users(self.record)

    @property
    def miss(self) -> float:
        """Return the distance of the logged items' estimated level from their level in the log, or 0 if unknown."""
        record = self.record
        return 0.0 if record is None else abs(record.behaviour - record.number("logged_level", record.behaviour))

    @property
    def lowest(self) -> float:
        """Return the lower end of the gain's interval that holds for all policies of the evaluation (Bonferroni)."""
        if self.record is None:
            return math.nan
        missed = 0.05 / self.policies
        wider = -float(ndtri(missed / 2)) / Z
        kinds = float(error_of_kinds(np.array(self.record.gains_by_model), missed))
        gain = self.record.gain
        return gain - math.hypot(wider * of_users(self.record), kinds, wider * _of_models(self.record))

    @property
    def cost(self) -> str | None:
        """Describe a loss that the level of the task does not show; None if it is small.

        On `depth` and `frequency`: a loss of `COST` in the other measure. On `mixture`: a measure that is worse by more
        than the difference that matters also at the favorable end of its interval. Both levels are ratios to a user's
        mean, so that a ratio to the logged items minus 1 is the change of a level.
        """
        record, logging = self.record, self.logging
        if record is None or logging is None:
            return None
        losses = []
        for key, unit in OWN_UNITS.items():
            value, logged = getattr(record, key), getattr(logging, key)
            if value is None or logged is None or not logged:
                continue
            low, high = getattr(record, f"{key}_ci") or (value, value)
            more = key == "mean_depth"  # is better
            if record.task == "mixture":
                lost = (1 - high / logged if more else 1 - logged / low if low else 0.0) > self.difference
            else:
                counted = more == (record.task == "depth")
                lost = not counted and (logged - value if more else value - logged) > COST * logged
            losses += [f"{value:,.1f} {unit} instead of {logged:,.1f}"] if lost else []
        return " and ".join(losses) or None

    @property
    def concentrated(self) -> bool:
        """Return whether ten items take most of its impressions, and the logging policy is not as concentrated."""
        if self.served is None or self.served.concentration(FEW_ITEMS) < CONCENTRATED:
            return False
        return self.logged is None or self.logged.share_of(FEW_ITEMS) <= self.served.share_of(FEW_ITEMS) / 2

    @property
    def above_control(self) -> bool:
        """Return whether the gain is above the largest gain of a negative control, by more than the error of the lead.

        Both gains are from the same models, so that errors of models apply to their difference.
        """
        if self.record is None or self.control is None:
            return False
        lead = self.record.gain - self.control.gain
        return lead > math.hypot(of_users(self.record), self.record.number("relative_error") * lead)

    @property
    def above_in_each_model(self) -> bool:
        """Return whether the policy gains more than every negative control in each model of users."""
        own = () if self.record is None else self.record.gains_by_model
        return all((np.subtract(own, control.gains_by_model) > 0).all() for control in self.controls)

    @property
    def all_users(self) -> bool:
        """Return whether every user of the split was scored."""
        record = self.record
        return record is None or record.users + record.users_left_out < record.number("users", math.inf)

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
        own = () if self.estimator == "model" else (shuffled(self.policy),)
        models = 0 if self.record is None else len(self.record.gains_by_model)
        controls = [record for record in self.peers if record.subject in (*BLIND, *own)]
        # Reports join evaluations, which may have other numbers of models.
        return [record for record in controls if len(record.gains_by_model) == models]


def of_users(record: Record) -> float:
    """Return the distance of a gain from the end of its interval towards 0, without the errors of models, in levels."""
    kinds = float(error_of_kinds(np.array(record.gains_by_model)))
    end = record.gain_interval[0 if record.gain > 0 else 1]
    return math.sqrt(max((record.gain - end) ** 2 - _of_models(record) ** 2 - kinds**2, 0.0))


def _of_models(record: Record) -> float:
    """Return the error of a gain, in levels, that back-tests and specification tests found."""
    return record.number("relative_error") * record.gain
