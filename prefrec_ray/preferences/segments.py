"""Which segments are compared: a segment (user, start) is `length` consecutive requests of one user.

For a user with n requests, starts are in [0, n - length), so that a request always follows the segment.
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
    """Two different users and a segment of each, all drawn uniformly.

    `requests` int64 [U] are the numbers of requests of the eligible users: at least two users, each with more than
    `length` requests.
    """
    user = _two_different(rng, len(requests), count)
    return Pairs(user, rng.integers(0, requests[user] - length))


def within_user(rng: np.random.Generator, requests: np.ndarray, length: int, count: int) -> Pairs:
    """One user and two of the user's segments, in either order, with fewer than `length` requests between them.

    How many is drawn uniformly, then the place. Every user needs more than 2 `length` requests. Farther apart, what
    tells segments apart is another policy, season or age of the account, and a reward would learn that.
    """
    user = rng.integers(0, len(requests), count)
    left = requests[user] - 2 * length
    between = rng.integers(0, np.minimum(left, length))
    first = rng.integers(0, left - between)
    start = np.stack([first, first + length + between], axis=1)
    return Pairs(np.stack([user, user], axis=1), rng.permuted(start, axis=1))


DRAWS: Mapping[str, Pairing] = {"any_users": any_users, "within_user": within_user}


def _two_different(rng: np.random.Generator, below: int | np.ndarray, count: int) -> np.ndarray:
    """Two different numbers below `below`, int64 [count, 2], drawn uniformly and in either order."""
    first = rng.integers(0, below, count)
    second = rng.integers(0, below - 1, count)
    return np.stack([first, second + (second >= first)], axis=1)
