"""Scripted teachers: what a segment is worth by the visits (sessions) that end in it, and which of two is preferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

#: Scores closer than this are equal: sums of levels times a weight that is no binary fraction differ by rounding.
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Visits:
    """The sessions of U users, by user and in time order: what a teacher may look at.

    `starts` int64 [U] is the first session of each user, `last_step` int64 [M] the step of each session's last request
    in its user's history, `level` float64 [M] its level, NaN where undefined.
    """

    starts: np.ndarray
    last_step: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, starts: np.ndarray, depth: np.ndarray, level: np.ndarray) -> Visits:
        """From the sessions' depths, int64 [M]."""
        ends = np.cumsum(depth)
        before = np.repeat(np.append(0, ends)[starts], np.diff(np.append(starts, len(depth))))
        return cls(starts, ends - before - 1, level)

    def ending_in(self, user: np.ndarray, start: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Sessions [first, end), int64 [n] each, whose last request lies in the segments (user, start)."""
        # One ascending key for all users: a user's steps, moved beyond those of the users before.
        stride = int(max(self.last_step.max(initial=0), start.max(initial=0) + length)) + 2
        sizes = np.diff(np.append(self.starts, len(self.last_step)))
        key = np.repeat(np.arange(len(self.starts)), sizes) * stride + self.last_step
        first = user * stride + start
        return np.searchsorted(key, first), np.searchsorted(key, first + length)


Scoring = Callable[[Visits, np.ndarray, np.ndarray, int], np.ndarray]


def sum_of_levels(visits: Visits, user: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """float64 [n]: the sum of the levels of the visits that end in each segment; an undefined level counts 0."""
    first, end = visits.ending_in(user, start, length)
    total = np.append(0.0, np.cumsum(np.nan_to_num(visits.level)))
    return total[end] - total[first]


def mean_level(visits: Visits, user: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """float64 [n]: the mean of the same levels; 0 where no visit ends in the segment."""
    first, end = visits.ending_in(user, start, length)
    return sum_of_levels(visits, user, start, length) / np.maximum(end - first, 1)


SCORINGS: Mapping[str, Scoring] = {"sum": sum_of_levels, "mean": mean_level}


def label(score_0: np.ndarray, score_1: np.ndarray) -> np.ndarray:
    """P(second preferred), float32: 1, 0, or 0.5 on a tie."""
    difference = score_1 - score_0
    return np.where(np.abs(difference) <= _TIE, 0.5, difference > 0).astype(np.float32)
