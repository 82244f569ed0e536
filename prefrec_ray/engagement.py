"""Sessions, depth, revisit times and levels relative to the user's mean.

A level (PrefRec, Eq. 11) compares a session with the mean over all sessions of its user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import changes, first_rows, run_lengths
from prefrec_ray.settings import TASKS

MAX_LEVEL = 5


@dataclass(frozen=True, eq=False)
class SessionTable:
    """One entry per session [M], sorted by user and time. Times are in ms, UTC."""

    user: np.ndarray  # of the dtype of the rows' users
    session_index: np.ndarray  # int64, from 0 within each user
    start: np.ndarray  # int64, first timestamp
    exit: np.ndarray  # int64, last timestamp plus its dwell if known
    depth: np.ndarray  # int64, number of steps: pages, or impressions of a log without pages
    revisit_ms: np.ndarray  # float64, next start minus exit, at least 1; NaN for a user's last session
    first_row: np.ndarray  # int64, row of the session's first step

    def __len__(self) -> int:
        return len(self.depth)


def session_numbers(
    user: np.ndarray, timestamp: np.ndarray, timeout_ms: int, session_id: np.ndarray | None = None
) -> np.ndarray:
    """Return the session number of each impression, int64 [N], from 0 within each user.

    Rows are sorted by (user, timestamp). A pause longer than `timeout_ms` starts a session. With `session_id`, a change
    of id starts a session instead, and pauses do not count. An id is only compared with the id of the row before.
    """
    if session_id is None:
        starts_session = np.diff(timestamp, prepend=timestamp[:1]) > timeout_ms
    else:
        starts_session = changes(session_id)
    # The count of the user's first row is subtracted, so that it has no effect if this row counts as a start.
    count = np.cumsum(starts_session)
    starts = first_rows(user)
    return count - np.repeat(count[starts], run_lengths(starts, len(count)))


def session_table(
    user: np.ndarray, timestamp: np.ndarray, number: np.ndarray, dwell_ms: np.ndarray | None = None
) -> SessionTable:
    """Return the sessions of rows sorted by (user, timestamp). `number` comes from `session_numbers`.

    `dwell_ms` [N] is NaN if unknown. Only the dwell time of the last impression of a session counts.
    """
    user = np.asarray(user)
    timestamp = np.asarray(timestamp, dtype=np.int64)
    user_changes = changes(user)
    first_row = np.flatnonzero(user_changes | changes(number))
    depth = run_lengths(first_row, len(user))
    last_row = first_row + depth - 1
    start, exit_ = timestamp[first_row], timestamp[last_row]
    if dwell_ms is not None:
        exit_ = exit_ + whole_dwell(np.asarray(dwell_ms)[last_row])
    revisit_ms = np.full(len(first_row), np.nan)
    revisit_ms[:-1] = np.maximum(start[1:] - exit_[:-1], 1)
    revisit_ms[:-1][user_changes[first_row[1:]]] = np.nan
    return SessionTable(
        user=user[first_row],
        session_index=np.asarray(number, dtype=np.int64)[first_row],
        start=start,
        exit=exit_,
        depth=depth,
        revisit_ms=revisit_ms,
        first_row=first_row,
    )


def whole_dwell(dwell_ms: np.ndarray) -> np.ndarray:
    """Return dwell in whole ms (int64); 0 if unknown (NaN)."""
    return np.rint(np.nan_to_num(np.asarray(dwell_ms, dtype=np.float64))).astype(np.int64)


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


def task_levels(task: str, depth_level: np.ndarray, frequency_level: np.ndarray, weight: float) -> np.ndarray:
    """Return the levels of `task`, float64 [M]. Raises `KeyError` for a task that is not in `settings.TASKS`.

    The paper leaves its mixture undefined. Here it is weight * depth + (1 - weight) * frequency; NaN if the frequency
    level is NaN.
    """
    levels = {
        "depth": depth_level,
        "frequency": frequency_level,
        "mixture": weight * depth_level + (1.0 - weight) * frequency_level,
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
