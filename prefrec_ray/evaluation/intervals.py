"""Intervals over users: users, not sessions or requests, are what is drawn again."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def bootstrap_interval(
    values: np.ndarray, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval of the mean over users: (low, high), each [...], for `values` [U, ...].

    Every column sees the same users drawn, so that the interval of a difference of two columns is a paired one.
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
