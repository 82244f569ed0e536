"""Time to the first return, also of users who have not returned yet.

Kaplan and Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958. A user counts once, with the
first return, so that observations are independent. The mean up to a horizon (restricted mean) is known even if some
users never return.

Estimates from more and more users have independent increments of information (Scharfstein, Tsiatis and Robins, JASA 92,
1997), as a sum of independent normal numbers does. So the normal mixture of Robbins ("Statistical methods related to
the law of the iterated logarithm", Annals of Mathematical Statistics 41, 1970) gives intervals for all looks. They are
asymptotic: they describe, and do not decide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

#: Users at which the intervals are narrowest, about.
_NARROWEST = 300.0


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
