"""Estimates of an outcome: means of arms, their difference, and the interval against a limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.serving.experiment.history import Participants
from prefrec_ray.serving.experiment.outcomes import UserOutcome
from prefrec_ray.serving.experiment.sequences import Interval, effect_interval, mean_interval

#: Users of the main arm from whose outcomes the range of an outcome without limits is taken, and the quantile.
RANGE_USERS, RANGE_QUANTILE = 100, 0.99
UNKNOWN = (-np.inf, np.inf)


@dataclass(frozen=True)
class ArmEstimate:
    """Estimate of a mean or a difference: its interval, valid at all looks, and the number of users.

    Without users, `value` is NaN, and the interval is the whole range of the outcome.
    """

    value: float
    low: float
    high: float
    users: int

    @property
    def verdict(self) -> str:
        """Classify a difference: `more`, `less`, or `not told apart`."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Sample:
    """Final outcomes of the users of the main arm and one canary, in the order of users.

    An outcome without limits is winsorised: its range is 0 to the quantile `RANGE_QUANTILE` of the first `RANGE_USERS`
    users of the main arm, from their smallest outcome if it is negative. If this quantile is the smallest outcome, the
    range ends at the largest one; if all are equal, twice as many users determine it, and so on. Users up to the last
    of these do not count in intervals, because a range must be known before the outcomes. With fewer users, the
    interval is unbounded.
    """

    values: np.ndarray  # float64 [n], within `limits` if they are known
    treated: np.ndarray  # bool [n]: users of the canary
    chance: np.ndarray  # float64 [n]: the probability of the canary
    limits: Interval
    first: int  # users before this one determined the limits
    before: np.ndarray | None = None  # float64 [n]: the outcome before the experiment, within `limits`; NaN if unknown

    @classmethod
    def of_canary(cls, who: Participants, outcome: UserOutcome, canary: int, final: int) -> Sample:
        """Return the sample for the canary number `canary` of the first `final` participants."""
        both = who.chance[:, canary] + who.chance[:, 0]
        chance = np.divide(who.chance[:, canary], both, out=np.zeros(len(both)), where=both > 0)
        used = np.isin(who.arm, (0, canary)) & np.isfinite(outcome.values) & (chance > 0) & (chance < 1)
        used &= np.arange(len(used)) < final
        values, treated = outcome.values[used], who.arm[used] == canary
        limits, first = (outcome.limits, 0) if outcome.limits else _range(values, treated)
        before = None if outcome.before is None else np.clip(outcome.before[used], *limits)
        return cls(np.clip(values, *limits), treated, chance[used], limits, first, before)

    @property
    def _span(self) -> float:
        return self.limits[1] - self.limits[0]

    def mean(self, treated: bool, alpha: float) -> ArmEstimate:
        """Return the mean of an arm."""
        arm = self.treated == treated
        users, value = int(arm.sum()), self._mean(self.values, treated)
        if not np.isfinite(self._span):
            return ArmEstimate(value, *UNKNOWN, users)
        low, high = mean_interval(self._scaled(self.values)[arm[self.first :]], alpha)
        return ArmEstimate(value, self.limits[0] + self._span * low, self.limits[0] + self._span * high, users)

    def difference(self, alpha: float) -> ArmEstimate:
        """Return the mean of the canary minus the mean of the main arm, adjusted for the users' outcomes before."""
        value = self._mean(self._adjusted, True) - self._mean(self._adjusted, False)
        return ArmEstimate(value, *self.against(1.0, alpha), len(self.values))

    def against(self, weight: float, alpha: float) -> Interval:
        """Return the interval of the mean of the canary minus `weight` times the mean of the main arm."""
        if not np.isfinite(self._span):
            return UNKNOWN
        since = slice(self.first, None)
        before = None if self.before is None else self._scaled(self.before)
        values, treated, chance = self._scaled(self.values), self.treated[since], self.chance[since]
        low, high = effect_interval(values, treated, chance, alpha, weight, before)
        offset = self.limits[0] * (1 - weight)
        return offset + self._span * low, offset + self._span * high

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Return the `values` [n] that count in intervals, as parts of the range, float64 [n - first]."""
        return (values[self.first :] - self.limits[0]) / self._span

    @property
    def _adjusted(self) -> np.ndarray:
        """Return the outcomes minus their linear prediction from outcomes before, plus its mean, float64 [n]."""
        if self.before is None:
            return self.values
        known = np.isfinite(self.before)
        x, y = self.before[known], self.values[known]
        if len(x) < 2 or not x.std() > 0:
            return self.values
        slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
        return self.values - np.where(known, slope * (self.before - x.mean()), 0.0)

    def _mean(self, values: np.ndarray, treated: bool) -> float:
        """Return the mean over an arm, in which users count inversely to the probability of the arm."""
        arm = self.treated == treated
        if not arm.any():
            return float("nan")
        chance = self.chance[arm] if treated else 1 - self.chance[arm]
        return float(np.average(values[arm], weights=1 / chance))


def _range(values: np.ndarray, treated: np.ndarray) -> tuple[Interval, int]:
    """Return the range of an outcome without limits, and the number of users up to the last that determined it."""
    rows = np.flatnonzero(~treated)
    count = RANGE_USERS
    while count <= len(rows):
        of_main = values[rows[:count]]
        low, high = min(0.0, float(of_main.min())), float(np.quantile(of_main, RANGE_QUANTILE))
        high = high if high > low else float(of_main.max())
        if high > low:
            return (low, high), int(rows[count - 1]) + 1
        count *= 2
    return UNKNOWN, 0
