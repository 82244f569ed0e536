"""Sessions of users: their impressions, depth, and the time until the next session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import changes, first_rows, run_lengths


@dataclass(frozen=True, eq=False)
class SessionTable:
    """One entry per session [M], sorted by user and time. Times are in ms, UTC."""

    user: np.ndarray  # of the dtype of the rows' users
    session_index: np.ndarray  # int64, from 0 within each user
    start: np.ndarray  # int64, first timestamp
    exit: np.ndarray  # int64, last timestamp plus its dwell if known
    depth: np.ndarray  # int64, number of impressions
    revisit_ms: np.ndarray  # float64, next start minus exit, at least 1; NaN for a user's last session
    first_row: np.ndarray  # int64, row of the session's first impression

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
