"""Preferences between segments of histories: pairs, scripted teachers and their labels, and the key `preferences`.

A segment (user, start) is `length` consecutive impressions of one user. For a user with n impressions, starts are in
[0, n - length), so that an impression always follows the segment.

A scripted teacher prefers the segment with the higher score, by the sum or the mean of the levels of its sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, field_validator, model_validator

from prefrec_ray import plugins
from prefrec_ray.engagement import task_levels
from prefrec_ray.ids import codes, first_rows, run_lengths
from prefrec_ray.memory import check_need
from prefrec_ray.settings import PAIRINGS, TASKS, Count, Pairing, Settings, Task

#: Scores with smaller differences are equal, because of rounding.
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of segments: `user` int64 [P, 2], an index among the eligible users, and `start` int64 [P, 2]."""

    user: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


Draw = Callable[[np.random.Generator, np.ndarray, int, int], Pairs]


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


DRAWS: Mapping[str, Draw] = {"any_users": any_users, "within_user": within_user}


def _two_different(rng: np.random.Generator, below: int | np.ndarray, count: int) -> np.ndarray:
    """Draw two different numbers below `below`, int64 [count, 2], uniformly and in either order."""
    first = rng.integers(0, below, count)
    second = rng.integers(0, below - 1, count)
    return np.stack([first, second + (second >= first)], axis=1)


@dataclass(frozen=True, eq=False)
class Sessions:
    """M sessions of U users, by user and in time order: the input of a teacher.

    `starts` int64 [U] is the first session of each user, `last_step` int64 [M] the position of each session's last
    impression in its user's history, `level` float64 [M] the session's level, NaN if undefined.
    """

    starts: np.ndarray
    last_step: np.ndarray
    level: np.ndarray

    @classmethod
    def from_depths(cls, starts: np.ndarray, depth: np.ndarray, level: np.ndarray) -> Sessions:
        """Create the table from the depths of the sessions, int64 [M]."""
        ends = np.cumsum(depth)
        before = np.repeat(np.append(0, ends)[starts], run_lengths(starts, len(depth)))
        return cls(starts, ends - before - 1, level)

    @classmethod
    def from_table(cls, table: pa.Table, task: str, mixture_weight: float) -> Sessions:
        """Create the table from a file of sessions of a data set, with the levels of a task."""
        level_depth, level_frequency = (table[f"level_{name}"].to_numpy() for name in ("depth", "frequency"))
        level = task_levels(task, level_depth, level_frequency, mixture_weight)
        return cls.from_depths(first_rows(codes(table["user_id"])), table["depth"].to_numpy(), level)

    def ending_in(self, user: np.ndarray, start: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return sessions [first, end), int64 [n] each, with their last impressions in the segments (user, start)."""
        # One ascending key for all users: the steps of a user come after all steps of the previous user.
        stride = int(max(self.last_step.max(initial=0), start.max(initial=0) + length)) + 2
        sizes = run_lengths(self.starts, len(self.last_step))
        key = np.repeat(np.arange(len(self.starts)), sizes) * stride + self.last_step
        first = user * stride + start
        return np.searchsorted(key, first), np.searchsorted(key, first + length)


Scoring = Callable[[Sessions, np.ndarray, np.ndarray, int], np.ndarray]


def sum_of_levels(sessions: Sessions, user: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Return the sum of the levels of the sessions that end in each segment (user, start), float64 [n].

    Undefined levels count as 0.
    """
    return _sums_and_counts(sessions, user, start, length)[0]


def mean_level(sessions: Sessions, user: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Return the mean of the same levels, float64 [n]; 0 if no session ends in the segment."""
    total, count = _sums_and_counts(sessions, user, start, length)
    return total / np.maximum(count, 1)


#: Functions `Scoring` by name.
SCORINGS = {"sum": "prefrec_ray.preferences:sum_of_levels", "mean": "prefrec_ray.preferences:mean_level"}


def find_scoring(name: str) -> Scoring:
    """Return the scoring of a name, of this package or of a plug-in. Raises `UserError` as `plugins.load` does."""
    scoring: Scoring = plugins.load("teachers", name, "prepare: key 'preferences.teachers'", SCORINGS)
    return scoring


def scoring_of(teacher: str) -> str:
    """Return the name of the scoring in the name of a teacher, <pairing>_<scoring>."""
    return next(teacher.removeprefix(f"{pairing}_") for pairing in PAIRINGS if teacher.startswith(pairing))


def label(score_0: np.ndarray, score_1: np.ndarray) -> np.ndarray:
    """Return P(second preferred), float32 [P]: 1, 0, or 0.5 if the scores are equal."""
    difference = score_1 - score_0
    return np.where(np.abs(difference) <= _TIE, 0.5, difference > 0).astype(np.float32)


def _sums_and_counts(
    sessions: Sessions, user: np.ndarray, start: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the levels of the sessions that end in each segment, float64 [n], and their number."""
    first, end = sessions.ending_in(user, start, length)
    count = end - first
    segment = np.repeat(np.arange(len(user)), count)
    session = np.arange(len(segment)) + np.repeat(first - (np.cumsum(count) - count), count)
    return np.bincount(segment, np.nan_to_num(sessions.level)[session], minlength=len(user)), count


#: Bytes of a pair while all are drawn, scored and labelled: two users, two starts, scores and labels, copied twice.
_OF_PAIR = 256


def _fit_into_memory(pairs: int) -> int:
    check_need(_OF_PAIR * pairs, f"{pairs:,} pairs")
    return pairs


#: Number of pairs that are drawn at a time.
PairCount = Annotated[Count, AfterValidator(_fit_into_memory)]


class TeacherSettings(Settings):
    """A scripted teacher: the segments that it compares (`pairing`), and their scores (`scoring`)."""

    pairing: Pairing
    scoring: Annotated[str, AfterValidator(lambda name: plugins.find("teachers", name, SCORINGS).name)]

    @property
    def name(self) -> str:
        """Return the name in tables and settings: <pairing>_<scoring>."""
        return f"{self.pairing}_{self.scoring}"


#: All scripted teachers of this package, by name.
SCRIPTED = {
    teacher.name: teacher
    for pairing in PAIRINGS
    for scoring in SCORINGS
    for teacher in [TeacherSettings.model_validate({"pairing": pairing, "scoring": scoring})]
}


class PreferenceSettings(Settings):
    """Numbers of pairs per task, and teachers. The default teachers belong to the recipes `paper` and `robust`."""

    pairs: PairCount = Field(default=20_000, description="pairs of training users, per task and teacher")
    validation_pairs: Annotated[PairCount, Field(ge=2)] = Field(
        default=2_000, description="pairs of validation users, half of each pairing"
    )
    length: Count = Field(default=100, description="impressions in a segment")
    min_requests: Count = Field(default=200, description="only users with more impressions are compared")
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = Field(
        default=TASKS, description="levels that teachers compare"
    )
    teachers: Annotated[tuple[TeacherSettings, ...], Field(min_length=1)] = Field(
        default=(SCRIPTED["any_users_sum"], SCRIPTED["within_user_mean"]),
        description="scripted teachers ([preferences](preferences.md))",
    )

    @property
    def scorings(self) -> list[str]:
        """Return the scorings in use, each once."""
        return list(dict.fromkeys(teacher.scoring for teacher in self.teachers))

    @field_validator("tasks", "teachers")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if any(value.count(one) > 1 for one in value):
            raise ValueError("expected each one once")
        return value

    @model_validator(mode="after")
    def _two_segments_fit(self) -> PreferenceSettings:
        if self.min_requests < 2 * self.length:
            raise ValueError(
                f"min_requests {self.min_requests} is too small for two segments of length {self.length} of one user; "
                f"expected min_requests of at least {2 * self.length}, or a smaller length"
            )
        return self
