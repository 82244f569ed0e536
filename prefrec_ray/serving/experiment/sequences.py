"""Confidence sequences: intervals that are valid after every number of users, and at all looks at once.

A bet on the outcome of each next user gains nothing in expectation if a hypothesis holds. By Ville's inequality its
capital reaches 1 / alpha with probability at most alpha, at any time. The interval contains all hypotheses against
which the capital is smaller. Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
86(1), 2024 (arXiv 2010.09686). Here the bets are a mixture over `BETS`, in units of the standard deviation.

Outcomes are in [0, 1], in the order of users. Everything that a bet depends on is known before the outcome.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

#: Bets in units of 1 / standard deviation. The best bet after n users is about 3 / sqrt(n): 25 to 20,000 users.
BETS = 0.7 * 0.5 ** np.arange(6)
#: Bets that need no standard deviation, as parts of the largest possible bet.
PARTS = 0.9 * 0.5 ** np.arange(10)
#: The largest part of the capital at risk in one bet.
_AT_RISK = 0.9
#: Weight, in users, of the mean of all users in the predicted outcome of an arm.
_PRIOR_USERS = 10.0
#: Number of users with an outcome from before the experiment that the fit of a line needs.
_LINE_USERS = 30
#: Number of factors of the capital whose product is computed before the logarithm.
_BLOCK = 16

Interval = tuple[float, float]


def mean_interval(values: np.ndarray, alpha: float) -> Interval:
    """Return the interval of the mean of `values` [n]. It is [0, 1] for n = 0."""
    everyone = np.ones(len(values), bool)
    bet = 1 / np.sqrt(_variance(values, _running_mean(values, everyone, 0.5, 1.0)))
    low = _lower(values, np.zeros(len(values)), bet, (0.0, 1.0), alpha / 2)
    return low, 1 - _lower(1 - values, np.zeros(len(values)), bet, (0.0, 1.0), alpha / 2)


def effect_interval(
    values: np.ndarray,
    treated: np.ndarray,
    chance: np.ndarray,
    alpha: float,
    weight: float = 1.0,
    before: np.ndarray | None = None,
) -> Interval:
    """Return the interval of the mean of treated users minus `weight` times the mean of other users.

    `chance` [n]: the known probability with which each user was `treated` (bool [n]), independent of the outcomes of
    all users. The difference is assumed to be the same for early and late users; outcomes may change in any way, also
    their deviation. If the difference changes, users from the time with small deviations count more, and the interval
    may miss the average: with +.04 and a deviation of .08, then -.06 and .29, it held the average in 22 % of trials.
    "No difference at any time" is refused with probability alpha at most. A prediction from
    earlier users replaces the unknown outcome in the other arm (augmented inverse probability weighting): the mean of
    the arm and, with the outcome `before` the experiment (float64 [n], NaN if unknown), a regression. The interval is
    narrower if predictions are good, and valid if they are not. The bets are on the sum of both arms, so that alpha is
    not divided between them.
    """
    shift = 0.0 if before is None else _regression(values, before)
    mean_other = _running_mean(values, ~treated, 0.5, 1.0)
    mean = _running_mean(values, treated, mean_other, _PRIOR_USERS)
    other, own = np.clip(mean_other + shift, 0.0, 1.0), np.clip(mean + shift, 0.0, 1.0)
    base = own - weight * other
    effect = base + np.where(treated, (values - own) / chance, -weight * (values - other) / (1 - chance))
    # The least and the largest effect of a user, over both arms and all outcomes in [0, 1].
    least = base - np.maximum(own / chance, weight * (1 - other) / (1 - chance))
    largest = base + np.maximum((1 - own) / chance, weight * other / (1 - chance))
    bet = chance / np.sqrt(_variance(values, np.where(treated, own, other)))
    low = _lower(effect, least, bet, (-weight, 1.0), alpha / 2)
    return low, -_lower(-effect, -largest, bet, (-1.0, weight), alpha / 2)


def largest_mean_interval(user: np.ndarray, code: np.ndarray, share: np.ndarray, users: int, alpha: float) -> Interval:
    """Return the interval of the largest mean share of a code.

    Entries [m]: the `share` of a `code` (int64) of a `user` (int64, 0 to `users`, in their order), not 0; a user's
    shares sum to at most 1. The interval is [0, 1] without users.
    """
    if not users or not len(share):
        return 0.0, 1.0
    return (
        _lower_of_largest(user, code, share, users, alpha / 2),
        _upper_of_largest(code, share, users, alpha / 2),
    )


def _lower_of_largest(user: np.ndarray, code: np.ndarray, share: np.ndarray, users: int, alpha: float) -> float:
    """Return the lower bound for the means of codes that led before the user came, which are at most the largest."""
    values = np.zeros(users)
    begin = 1
    while begin < users:
        leading = np.bincount(code, share * (user < begin)).argmax()
        now = (code == leading) & (user >= begin) & (user < 2 * begin)
        values[user[now]] = share[now]
        begin *= 2
    values = values[1:]
    everyone = np.ones(len(values), bool)
    bet = 1 / np.sqrt(_variance(values, _running_mean(values, everyone, 0.5, 1.0)))
    return _lower(values, np.zeros(len(values)), bet, (0.0, 1.0), alpha)


def _upper_of_largest(code: np.ndarray, share: np.ndarray, users: int, alpha: float) -> float:
    """Return the largest upper bound of a code. Only the bound of the code with the largest mean must be valid."""
    low, high = float(np.bincount(code, share).max() / users), 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        bet = PARTS[:, None] / (1 - middle)
        _, code = np.unique(code, return_inverse=True)
        count = np.bincount(code)
        gains = np.log1p(bet * (middle - share))
        log_capital = np.stack([np.bincount(code, gain) for gain in gains]) + (users - count) * np.log1p(bet * middle)
        possible = np.logaddexp.reduce(log_capital, axis=0) - np.log(len(PARTS)) < np.log(1 / alpha)
        if possible.any():
            low = middle
            code, share = code[possible[code]], share[possible[code]]
        else:
            high = middle
    return high


def _lower(values: np.ndarray, least: np.ndarray, bet: np.ndarray, limits: Interval, alpha: float) -> float:
    """Return the lower bound of the mean of `values` [n] within `limits`.

    `least` [n] is the smallest possible value, at most the lower limit, and `bet` [n] scales the bets. Both are known
    before the value.
    """
    low, high = limits
    bets, wanted = BETS[:, None] * bet, np.log(len(BETS) / alpha)

    def surplus(mean: float) -> float:
        """Return the log capital against means up to `mean`, minus the capital that excludes them; it decreases."""
        distance = values - mean
        largest = _AT_RISK / (mean - least)
        return float(np.logaddexp.reduce(_log_products(1 + np.minimum(largest, bets) * distance)) - wanted)

    start = low + 1e-9 * (high - low)
    if surplus(start) <= 0:
        return low
    return high if surplus(high) >= 0 else float(brentq(surplus, start, high, xtol=1e-5 * (high - start)))


def _log_products(factors: np.ndarray) -> np.ndarray:
    """Return the log of the product of each row of `factors` [m, n], with one logarithm per `_BLOCK` factors."""
    whole = factors.shape[1] // _BLOCK * _BLOCK
    blocks = factors[:, :whole].reshape(len(factors), -1, _BLOCK).prod(axis=2)
    return np.log(blocks).sum(axis=1) + np.log(factors[:, whole:]).sum(axis=1)


def _running_mean(values: np.ndarray, mask: np.ndarray, prior: float | np.ndarray, weight: float) -> np.ndarray:
    """Return for each entry the mean of earlier `values` [n] in `mask`, and of `weight` times the `prior`."""
    return (weight * prior + _earlier(np.where(mask, values, 0.0))) / (weight + _earlier(mask.astype(np.float64)))


def _regression(values: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return for each entry the deviation from the mean that a line through earlier entries predicts, float64 [n].

    It is 0 if `before` is NaN, and for the first entries.
    """
    known = np.isfinite(before)
    x, y = np.where(known, before, 0.0), np.where(known, values, 0.0)
    count = _earlier(known.astype(np.float64))
    enough = count >= _LINE_USERS
    n = np.where(enough, count, 1.0)
    mean_x, mean_y = _earlier(x) / n, _earlier(y) / n
    covariance, variance = _earlier(x * y) / n - mean_x * mean_y, _earlier(x * x) / n - mean_x**2
    slope = np.divide(covariance, variance, out=np.zeros(len(x)), where=enough & (variance > 1e-9))
    return np.where(known, slope * (x - mean_x), 0.0)


def _variance(values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return for each entry the mean squared error of earlier predictions and of one of 1/2, never 0."""
    return (0.25 + _earlier(np.square(values - predicted))) / (1 + np.arange(len(values)))


def _earlier(values: np.ndarray) -> np.ndarray:
    """Return for each entry the sum of earlier entries."""
    return np.cumsum(np.append(0.0, values[:-1])) if len(values) else values
