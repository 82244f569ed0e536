"""Counts of a log: sessions at several session timeouts, levels, segments, repeated rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.dataset.prepare.rows import in_pages
from prefrec_ray.engagement import MAX_LEVEL, depth_levels, frequency_levels, session_numbers, session_table
from prefrec_ray.errors import unwrapped_errors
from prefrec_ray.ids import changes, codes, first_rows, fraction, hash_ids, run_lengths
from prefrec_ray.logs.log import Log, equal_rows
from prefrec_ray.mdp.pages import Pages

TIMEOUTS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Lengths of segments, in steps. Two of a user's must fit: the user needs more than twice this number of steps.
LENGTHS = (100, 50, 20, 10, 5)
#: Rows in memory at most, about: of a larger log, a random set of users is counted.
_ROWS = 1 << 22
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_USER_KEY = 2


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over a log. `timeouts` are the minutes that end the sessions; None stands for the log's own sessions.

    `share`: share of the users that were counted. If it is less than 1, sums are scaled up to all users; `items` is
    exact. `first` and `last` are times of the counted users.
    """

    share: float
    rows: int
    steps: int  # pages; impressions of a log without pages
    users: int
    items: int
    first: int  # ms, UTC
    last: int
    repeats: int  # rows that are equal to an earlier one in every column that was read
    shared: int  # rows with the user and the time of another row; 0 if the log has pages
    timed: int  # rows with a time of day (not midnight, UTC)
    timeouts: tuple[float | None, ...]
    sessions: np.ndarray  # int64 [T]
    single: np.ndarray  # int64 [T], users with one session
    level_timeout: float | None  # the timeout of the levels
    depth_levels: np.ndarray  # int64 [6], sessions at each level (Eq. 11)
    frequency_levels: np.ndarray  # int64 [6], sessions with a frequency level
    long_users: np.ndarray  # int64 [L], users with more than 2 * LENGTHS steps


def shared_rows(counts: Counts) -> str | None:
    """Return one line about rows that may be pages, None if no rows share user and time or times are whole days."""
    if not (counts.shared and counts.timed):
        return None
    share = counts.shared / counts.rows
    return f"{counts.shared:,} rows ({share:.1%}) share user and time with another; page: time if a page showed them"


def count(log: Log, timeout_minutes: float = 30.0) -> Counts | None:
    """Count the rows of a log in this process. Return None without rows.

    Levels are for sessions at `timeout_minutes`, or for the log's own sessions. Raises `UserError` for an invalid line.
    """
    timeouts = (*sorted({*TIMEOUTS_MINUTES, timeout_minutes}), *((None,) if log.given_sessions else ()))
    level_timeout = None if log.given_sessions else timeout_minutes
    share = min(1.0, _ROWS / log.rows)
    kept, items = [], []
    for table in _tables(log):
        items.append(pc.unique(table["item_id"]))
        if share < 1:
            table = table.filter(pa.array(fraction(hash_ids(table["user_id"], _USER_KEY)) < share))
        kept.append(table)
    rows = pa.concat_tables(kept) if kept else None
    if rows is None or not len(rows):
        return None
    return Counts(
        share=share,
        items=len(pa.chunked_array(items).unique()),
        first=pc.min(rows["timestamp"]).as_py(),
        last=pc.max(rows["timestamp"]).as_py(),
        timeouts=timeouts,
        level_timeout=level_timeout,
        **{name: _scaled(value, share) for name, value in sums(rows, timeouts, level_timeout).items()},
    )


def head(log: Log, rows: int) -> pa.Table:
    tables: list[pa.Table] = []
    for table in _tables(log):
        tables.append(table)
        if sum(map(len, tables)) >= rows:
            break
    return pa.concat_tables(tables).slice(0, rows)


def _tables(log: Log) -> Iterator[pa.Table]:
    """Yield tables with rows, read in this process if possible, else by Ray Data."""
    with unwrapped_errors():
        read = log.tables or (lambda: log.interactions().iter_batches(batch_size=None, batch_format="pyarrow"))
        yield from (table for table in read() if table.num_rows)


def _scaled(value: Any, share: float) -> Any:
    return value if share == 1 else np.rint(np.divide(value, share)).astype(np.int64)[()]


def sums(rows: pa.Table, timeouts: tuple[float | None, ...], level_timeout: float | None) -> dict[str, Any]:
    """Return the sums over the rows of some users, in any order: int or int64 arrays by the fields of `Counts`."""
    rows = rows.sort_by([(name, "ascending") for name in ("user_id", "timestamp", "order")])
    repeats = int(equal_rows(rows).sum())
    if "examined" in rows.column_names:
        rows = rows.filter(rows["examined"]).drop_columns(["examined"])
    rows = in_pages(rows, np.ones(len(rows), bool))
    pages = Pages.from_table(rows)
    starts, at = pages.of_user, pages.first
    time = rows["timestamp"].to_numpy()
    user, of_page = codes(rows["user_id"])[at], time[at]
    session_id = codes(rows["session_id"])[at] if "session_id" in rows.column_names else None
    tables = {}
    for timeout in timeouts:
        rule = (0, session_id) if timeout is None else (round(timeout * _MINUTE_MS), None)
        tables[timeout] = session_table(user, of_page, session_numbers(user, of_page, *rule))
    levels = tables[level_timeout]
    same = ~(changes(user) | changes(of_page)) & ("page" not in rows.column_names)
    steps = run_lengths(starts, len(at))
    of_users = [run_lengths(first_rows(table.user), len(table)) for table in tables.values()]
    return {
        "rows": len(rows),
        "steps": len(at),
        "users": len(starts),
        "repeats": repeats,
        "shared": int((same | np.append(same[1:], False)).sum()),
        "timed": int((time % _DAY_MS != 0).sum()),
        "sessions": np.array([len(table) for table in tables.values()]),
        "single": np.array([int((sizes == 1).sum()) for sizes in of_users]),
        "depth_levels": _histogram(depth_levels(levels.user, levels.depth)),
        "frequency_levels": _histogram(frequency_levels(levels.user, levels.revisit_ms)),
        "long_users": np.array([int((steps > 2 * length).sum()) for length in LENGTHS]),
    }


def _histogram(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels[~np.isnan(levels)].astype(np.int64), minlength=MAX_LEVEL + 1)
