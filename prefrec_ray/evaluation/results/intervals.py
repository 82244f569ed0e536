"""Bootstrap intervals over users (not over sessions or impressions), and seeds of repetitions."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 1000


def bootstrap_interval(
    values: np.ndarray, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of the mean over users: (low, high), each [...], for `values` [U, ...].

    All columns have the same bootstrap samples, so that the interval of a difference of two columns is paired.
    """
    rng = np.random.default_rng(seed)
    users = len(values)
    flat = values.reshape(users, -1).astype(np.float64)
    means = np.empty((resamples, flat.shape[1]))
    for draw in range(resamples):
        times_drawn = np.bincount(rng.integers(0, users, users), minlength=users)
        means[draw] = times_drawn @ flat / users
    tail = 0.5 * (1 - level)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def widened(
    low: np.ndarray, high: np.ndarray, repeated: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals (low, high) [...] of a mean over the repetitions `repeated` [K, ...], with their scatter.

    The error of a mean of K values (Student's t) and the error over users are independent: half-widths add as squares.
    One repetition has no scatter.

    Each repetition has its own initial weights, order of batches and bootstrap sample of training users. The difference
    of the training users from other users is an error common to all repetitions, for which division by sqrt(K) is too
    optimistic. It is at most half of the scatter; Student's t compensates for it.
    """
    count, mean = len(repeated), repeated.mean(axis=0)
    if count < 2:
        return low, high
    half = stdtrit(count - 1, 0.5 * (1 + level)) * repeated.std(axis=0, ddof=1) / np.sqrt(count)
    return mean - np.hypot(mean - low, half), mean + np.hypot(high - mean, half)


def repetition_seed(seed: int, number: int) -> int:
    """Return the seed of a repetition. Two seeds have no common repetition seeds, unlike `seed + number`."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
