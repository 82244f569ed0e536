"""Effects of kinds of items on an outcome, as random effects.

The mean outcome of a kind is shrunk by the signal that two halves of the users share (empirical Bayes; Robbins 1956,
"An Empirical Bayes Approach to Statistics"), so that rare kinds, and kinds without an effect, have about 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def kind_effects(outcomes: np.ndarray, users: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return the effect of each code, float32 [C] for each of K kinds, on `outcomes` float64 [n].

    `users` int64 [n] are the numbers of the users, and `codes` int32 [n, K] the kinds of the items; -1: unknown. Later
    kinds explain what the earlier ones leave. A user's mean is removed, since it is not due to an item.
    """
    counts = np.bincount(users)
    left = outcomes - (np.bincount(users, outcomes) / np.maximum(counts, 1))[users]
    effects = []
    for code in codes.T:
        known = code >= 0
        own = _shrunk_means(left[known], users[known] % 2, code[known])
        left = left - np.where(known, np.append(own, 0.0)[code], 0.0)
        effects.append(own.astype(np.float32))
    return effects


def effects_of_items(effects: Sequence[np.ndarray], kinds: np.ndarray) -> np.ndarray:
    """Return the sum of the `effects` of the kinds int32 [I, K] of each item, float32 [I].

    Unknown kinds, and kinds without an effect, add nothing.
    """
    total = np.zeros(len(kinds), np.float32)
    for own, codes in zip(effects, kinds.T, strict=False):
        known = (codes >= 0) & (codes < len(own))
        total[known] += own[codes[known]]
    return total


def _shrunk_means(values: np.ndarray, half: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return the shrunk mean of `values` [n] of each code, float64 [C]; `half` [n] is 0 or 1.

    The variance of effects is the covariance of the means of both halves, which have no user in common.
    """
    size = int(code.max(initial=-1)) + 1
    place = half * size + code
    count = np.bincount(place, minlength=2 * size).reshape(2, size)
    total = np.bincount(place, values, minlength=2 * size).reshape(2, size)
    each, overall = total / np.maximum(count, 1), total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    weight = count.min(axis=0)
    if not weight.any():
        return np.zeros(size)
    variance = float((weight * each.prod(axis=0)).sum() / weight.sum())
    if variance <= 0:
        return np.zeros(size)
    shown, rows = int((count.sum(axis=0) > 0).sum()), count.sum(axis=0)
    # The mean of n values has the variance `variance` + noise / n.
    noise = max(0.0, float((rows * np.square(overall)).sum() - variance * rows.sum()) / shown)
    return overall * rows / np.maximum(rows + noise / variance, 1)  # a code without impressions has no effect
