"""Estimates of an outcome: means of arms, their difference, and the interval against a limit.

Time to the first return, also of users who have not returned yet: Kaplan and Meier, "Nonparametric estimation from
incomplete observations", JASA 53, 1958. A user counts once, with the first return, so that observations are
independent. The mean up to a horizon (restricted mean) is known even if some users never return.

Estimates from more and more users have independent increments of information (Scharfstein, Tsiatis and Robins, JASA 92,
1997), as a sum of independent normal numbers does. So the normal mixture of Robbins ("Statistical methods related to
the law of the iterated logarithm", Annals of Mathematical Statistics 41, 1970) gives intervals for all looks. They are
asymptotic: they describe, and do not decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prefrec_ray.serving.experiment.history import Participants
from prefrec_ray.serving.experiment.outcomes import UserOutcome
from prefrec_ray.serving.experiment.sequences import Interval, effect_interval, mean_interval

#: Users of the main arm from whose outcomes the range of an outcome without limits is taken, and the quantile.
RANGE_USERS, RANGE_QUANTILE = 100, 0.99
UNKNOWN = (-np.inf, np.inf)
#: Users at which the intervals of a restricted mean are narrowest, about.
_NARROWEST = 300.0


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


class RestrictedMean(NamedTuple):
    """Mean time up to a horizon.

    It is between `least` and `most`, apart from chance, if no user was observed up to the horizon.
    """

    value: float
    least: float
    most: float
    variance: float
    users: int

    def minus(self, other: RestrictedMean) -> RestrictedMean:
        """Return the difference from another arm; the number of users is the smaller one."""
        return RestrictedMean(
            self.value - other.value,
            self.least - other.most,
            self.most - other.least,
            self.variance + other.variance,
            min(self.users, other.users),
        )

    def interval(self, low: float, high: float, alpha: float) -> tuple[float, float]:
        """Return an interval within `low` and `high` that is valid at all looks."""
        if not self.users:
            return low, high
        grown = 1 + self.users / _NARROWEST
        half = math.sqrt(self.variance * grown * _NARROWEST / self.users * math.log(grown / alpha**2))
        return max(self.least - half, low), min(self.most + half, high)


def restricted_mean(time: np.ndarray, returned: np.ndarray, horizon: float) -> RestrictedMean:
    """Return the mean of min(time to the return, `horizon`), for `time` [n] at least 0.

    If not `returned` (bool [n]), the time is only known to be longer than `time`. The variance is Greenwood's, with one
    more user at both ends of the range, so that it is never 0. Without users, the value is NaN.
    """
    users = len(time)
    if not users:
        return RestrictedMean(math.nan, 0.0, horizon, math.inf, 0)
    known = returned & (time < horizon)
    moments, events = np.unique(time[known], return_counts=True)
    at_risk = users - np.searchsorted(np.sort(time), moments, side="left")
    surviving = np.append(1.0, np.cumprod(1 - events / at_risk))
    area = surviving * np.diff(np.concatenate([[0.0], moments, [horizon]]))
    value = float(area.sum())
    # After the last observation, the curve may be anywhere between its last value and 0.
    unseen = float(surviving[-1] * max(horizon - time.max(), 0.0))
    later = np.cumsum(area[::-1])[::-1][1:]  # area under the curve after each moment
    left = at_risk - events
    terms = np.square(later) * events / (at_risk * np.maximum(left, 1))
    greenwood = float(terms[left > 0].sum())
    variance = (greenwood * users + (horizon / 2) ** 2 / users) / (users + 1)
    return RestrictedMean(value, value - unseen, value, variance, users)
