"""Levels of engagement (PrefRec, Eq. 11): a session compared with the mean over all sessions of its user."""

from __future__ import annotations

import numpy as np

from prefrec_ray.engagement.sessions import SessionTable
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.settings import TASKS

MAX_LEVEL = 5


def level_of(ratio: np.ndarray) -> np.ndarray:
    """Return clip(floor(ratio), 0, 5), float64. NaN stays NaN.

    The ratio is depth / mean depth, or mean revisit time / revisit time of the session.
    """
    return np.clip(np.floor(ratio), 0, MAX_LEVEL)


def depth_levels(user: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return clip(floor(d_i / mean d), 0, 5), float64 [M], for sessions sorted by user."""
    depth = np.asarray(depth, dtype=np.float64)
    mean = _user_sums(user, depth) / _user_sums(user, np.ones(len(depth)))
    return level_of(depth / mean)


def frequency_levels(user: np.ndarray, revisit_ms: np.ndarray) -> np.ndarray:
    """Return clip(floor(mean e / e_i), 0, 5), float64 [M], for sessions sorted by user; NaN if `revisit_ms` is NaN."""
    revisit_ms = np.asarray(revisit_ms, dtype=np.float64)
    known = ~np.isnan(revisit_ms)
    total, count = _user_sums(user, np.where(known, revisit_ms, 0.0)), _user_sums(user, known.astype(np.float64))
    mean = total / np.maximum(count, 1.0)
    return level_of(mean / revisit_ms)


def mixture_levels(depth_level: np.ndarray, frequency_level: np.ndarray, weight: float) -> np.ndarray:
    """Return weight * depth + (1 - weight) * frequency, float64 [M]; NaN if the frequency level is NaN.

    The paper leaves its mixture undefined; this definition is the project's own.
    """
    return weight * np.asarray(depth_level) + (1.0 - weight) * np.asarray(frequency_level)


def task_levels(task: str, depth_level: np.ndarray, frequency_level: np.ndarray, weight: float) -> np.ndarray:
    """Return the levels of `task`, float64 [M]. Raises `KeyError` for a task that is not in `settings.TASKS`."""
    levels = {
        "depth": depth_level,
        "frequency": frequency_level,
        "mixture": mixture_levels(depth_level, frequency_level, weight),
    }
    return np.asarray(levels[task], dtype=np.float64)


def levels_against(
    table: SessionTable, mean_depth: np.ndarray, mean_revisit_ms: np.ndarray, weight: float
) -> dict[str, np.ndarray]:
    """Return the level [M] of each session by task. `table.user` (int64) is the row of the user in the means [n].

    Frequency and mixture are NaN for a session without a next one, and for a user without a logged mean. `weight` is
    the weight of depth in the mixture.
    """
    depth = level_of(table.depth / mean_depth[table.user])
    frequency = level_of(mean_revisit_ms[table.user] / table.revisit_ms)
    return {task: task_levels(task, depth, frequency, weight) for task in TASKS}


def user_means(user: np.ndarray, values: np.ndarray, users: int) -> np.ndarray:
    """Return the mean per user of the values that are not NaN, [users]; NaN for none. `user` counts from 0."""
    known = ~np.isnan(values)
    total, count = np.bincount(user[known], values[known], users), np.bincount(user[known], minlength=users)
    return np.divide(total, count, out=np.full(users, np.nan), where=count > 0)


def _user_sums(user: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each entry the sum of `values` over its user."""
    starts = first_rows(user)
    if not len(starts):
        return np.zeros(0)
    return np.repeat(np.add.reduceat(values, starts), run_lengths(starts, len(values)))
