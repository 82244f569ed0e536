"""Which segments are compared: a segment is (user, start), `length` consecutive requests of one user.

Starts lie in [0, n - length) for a user of n requests, so that a request always follows the segment.
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
    """Two different users, each drawn uniformly, and a segment of each, uniformly.

    `requests` int64 [U] are the eligible users' numbers of requests; at least two users, each with more than `length`.
    """
    user = _two_different(rng, len(requests), count)
    return Pairs(user, rng.integers(0, requests[user] - length))


def within_user(rng: np.random.Generator, requests: np.ndarray, length: int, count: int) -> Pairs:
    """One user, drawn uniformly, and two segments of the user's that do not overlap, uniformly and in either order.

    Every user needs more than 2 `length` requests.
    """
    user = rng.integers(0, len(requests), count)
    # Take the two segments out of the user's history: two gaps in what is left, which may be one and the same.
    left = requests[user] - 2 * length
    gaps = _two_different(rng, left + 1, count)
    later = gaps[:, [0]] < gaps[:, [1]]
    shift = np.concatenate([~later, later], axis=1)
    return Pairs(np.stack([user, user], axis=1), gaps + shift * (length - 1))


DRAWS: Mapping[str, Pairing] = {"any_users": any_users, "within_user": within_user}


def _two_different(rng: np.random.Generator, below: int | np.ndarray, count: int) -> np.ndarray:
    """Two different numbers below `below`, int64 [count, 2], uniformly and in either order."""
    first = rng.integers(0, below, count)
    second = rng.integers(0, below - 1, count)
    return np.stack([first, second + (second >= first)], axis=1)
