"""Sampling of the segments to compare. A segment (user, start) is `length` consecutive impressions of one user.

For a user with n impressions, starts are in [0, n - length), so that an impression always follows the segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of segments: `user` int64 [P, 2], an index among the eligible users, and `start` int64 [P, 2]."""

    user: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


Pairing = Callable[[np.random.Generator, np.ndarray, int, int], Pairs]


def any_users(rng: np.random.Generator, requests: np.ndarray, length: int, count: int) -> Pairs:
    """Draw two different users and a segment of each, uniformly.

    `requests` int64 [U] are the numbers of impressions of the eligible users: at least two users, each with more than
    `length` impressions.
    """
    user = _two_different(rng, len(requests), count)
    return Pairs(user, rng.integers(0, requests[user] - length))


def within_user(rng: np.random.Generator, requests: np.ndarray, length: int, count: int) -> Pairs:
    """Draw one user and two of the user's segments that do not overlap, in either order, uniformly.

    Every user needs more than 2 `length` impressions.
    """
    user = rng.integers(0, len(requests), count)
    # After removal of the two segments, their positions are two gaps in the rest of the history, possibly equal.
    left = requests[user] - 2 * length
    gaps = _two_different(rng, left + 1, count)
    later = gaps[:, [0]] < gaps[:, [1]]
    shift = np.concatenate([~later, later], axis=1)
    return Pairs(np.stack([user, user], axis=1), gaps + shift * (length - 1))


DRAWS: Mapping[str, Pairing] = {"any_users": any_users, "within_user": within_user}


def _two_different(rng: np.random.Generator, below: int | np.ndarray, count: int) -> np.ndarray:
    """Draw two different numbers below `below`, int64 [count, 2], uniformly and in either order."""
    first = rng.integers(0, below, count)
    second = rng.integers(0, below - 1, count)
    return np.stack([first, second + (second >= first)], axis=1)
