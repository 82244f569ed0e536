"""Sessions of a file of impressions, with their levels and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError


@dataclass(frozen=True)
class LoggedSessions:
    """One row per session, by user and in time order."""

    user: np.ndarray  # int64 [M], ascending: 0 for the first user
    depth_level: np.ndarray  # float64 [M]
    frequency_level: np.ndarray  # float64 [M], NaN if null
    relative_depth: np.ndarray  # float64 [M]: depth over the user's mean depth
    log_rho: np.ndarray  # float64 [M, subjects], before the cap

    def take(self, columns: Sequence[int]) -> LoggedSessions:
        """Return the sessions with the weights of some subjects only."""
        return replace(self, log_rho=self.log_rho[:, columns])

    @classmethod
    def concatenate(cls, parts: Sequence[LoggedSessions]) -> LoggedSessions:
        """Join the sessions of several parts, which have no user in common."""
        users = np.cumsum([0, *(part.user.max(initial=-1) + 1 for part in parts[:-1])])
        columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        columns["user"] += np.repeat(users, [len(part.user) for part in parts])
        return cls(**columns)


def session_rows(requests: pa.Table, sessions: pa.Table, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the order (int64 [N]) of impressions by session and step, and the first row [M] of each session in it.

    `sessions` as from `read_sessions`. Raises `UserError` if impressions and sessions do not match.
    """
    users = pc.unique(sessions["user_id"])
    tables = (sessions, requests)
    stride = 1 + max(table["session_index"].to_numpy().max(initial=0) for table in tables)
    expected, actual = (_user_codes(table, users) * stride + table["session_index"].to_numpy() for table in tables)
    order = np.lexsort((requests["step"].to_numpy(), actual))
    keys, first, length = np.unique(actual[order], return_index=True, return_counts=True)
    if not np.array_equal(keys, expected) or not np.array_equal(length, sessions["depth"].to_numpy()):
        raise UserError(
            f"{file}: found other sessions than in the data set's table of sessions; prepare the data again"
        )
    return order, first


def session_columns(sessions: pa.Table, log_rho: np.ndarray) -> LoggedSessions:
    """Return `sessions` (from `read_sessions`) with the log weights [M, subjects] of its rows."""
    user = _user_codes(sessions, pc.unique(sessions["user_id"]))
    depth = sessions["depth"].to_numpy().astype(np.float64)
    mean_depth = np.bincount(user, depth) / np.bincount(user)
    return LoggedSessions(
        user=user,
        depth_level=_levels(sessions["level_depth"]),
        frequency_level=_levels(sessions["level_frequency"]),
        relative_depth=depth / mean_depth[user],
        log_rho=log_rho,
    )


def _user_codes(table: pa.Table, users: pa.Array) -> np.ndarray:
    """Return the index of each row's user in `users`, int64; -1 if absent."""
    return pc.index_in(table["user_id"], value_set=users).fill_null(-1).to_numpy().astype(np.int64)


def _levels(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(column, pa.float64()).fill_null(np.nan).to_numpy()
