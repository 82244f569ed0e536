"""Transitions (s, a, s'): two consecutive impressions of one user, across sessions; the last one has no successor."""

from __future__ import annotations

import numpy as np


def transition_rows(user_starts: np.ndarray, n: int) -> np.ndarray:
    """Return rows i (int64, ascending) such that i and i + 1 are impressions of one user.

    `user_starts` are the first rows of the users among `n` rows sorted by (user, timestamp).
    """
    followed = np.ones(n, dtype=bool)
    followed[np.asarray(user_starts, dtype=np.int64)[1:] - 1] = False
    followed[n - 1 :] = False
    return np.flatnonzero(followed)
