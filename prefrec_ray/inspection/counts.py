"""What a log holds, counted bucket by bucket of users: sessions at several gaps, levels, segments, duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray.engagement.levels import MAX_LEVEL, depth_levels, frequency_levels
from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.ids import first_rows
from prefrec_ray.inspection.rows import INCOMPLETE, Rows

GAPS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Segments of so many requests; a user can give one with more than twice as many, as two must fit.
LENGTHS = (100, 50, 20, 10, 5)
SKETCH = 4096  # smallest hashes of items that are kept: the number of items is known to 1.6 %
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_SUMS = ("rows", "users", "duplicates", "repeats", "disorder", "simultaneous", "timed")
_VECTORS = ("sessions", "single", "depth_levels", "frequency_levels", "long_users")


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over a log. `gaps` are the minutes of `sessions`; None stands for sessions that the log names itself."""

    incomplete: int  # rows without a user, an item or a time that can be read; all else is about the other rows
    rows: int
    users: int
    items: int  # exact below 4,096 of them, else an estimate
    first: int  # ms, UTC
    last: int
    duplicates: int  # rows that equal an earlier one in every column
    repeats: int  # rows that equal an earlier one in every column that has a role
    disorder: int  # rows that are earlier than the one before, of the same user
    simultaneous: int  # rows of the same user and time as another, but for one of them
    timed: int  # rows with a time of day (not midnight, UTC)
    gaps: tuple[float | None, ...]
    sessions: np.ndarray  # int64 [G]
    single: np.ndarray  # int64 [G], users with one session
    level_gap: float | None  # where the levels are counted
    depth_levels: np.ndarray  # int64 [6], sessions at each level (Eq. 11)
    frequency_levels: np.ndarray  # int64 [6], those that have one
    long_users: np.ndarray  # int64 [L], users with more than twice LENGTHS requests


def count(rows: Rows, gap_minutes: float = 30.0, named_sessions: bool = False) -> Counts:
    """Counts the rows that `rows_of_files` or `rows_of_log` gives, each bucket where Ray Data brings it together.

    Levels are those of sessions at `gap_minutes`, or of the log's own. Raises `UserError` for a line or a value of the
    log that its reader refuses, and where no row is complete.
    """
    gaps = (*sorted({*GAPS_MINUTES, gap_minutes}), *((None,) if named_sessions else ()))
    level_gap = None if named_sessions else gap_minutes
    summarise = partial(summarise_bucket, gaps=gaps, level_gap=level_gap)
    try:
        groups = rows.dataset.groupby("bucket", num_partitions=rows.buckets)
        found = groups.map_groups(summarise, batch_format="pyarrow").take_all()
    except Exception as error:
        mistake = find_user_error(error)
        if mistake is None:
            raise
        raise mistake from None
    incomplete = sum(int(part["rows"]) for part in found if part["bucket"] == INCOMPLETE)
    parts = [part for part in found if part["bucket"] != INCOMPLETE]
    if not parts:
        raise UserError(f"all {incomplete} rows lack a user, an item or a time that can be read; expected interactions")

    def total(name: str) -> Any:
        return np.sum([np.asarray(part[name]) for part in parts], axis=0)

    sums: dict[str, Any] = {name: int(total(name)) for name in _SUMS}
    return Counts(
        incomplete=incomplete,
        **sums,
        items=distinct_items(np.concatenate([np.asarray(part["items"], dtype=np.int64) for part in parts])),
        first=min(int(part["first"]) for part in parts),
        last=max(int(part["last"]) for part in parts),
        gaps=gaps,
        level_gap=level_gap,
        **{name: total(name) for name in _VECTORS},
    )


def summarise_bucket(rows: pa.Table, gaps: tuple[float | None, ...], level_gap: float | None) -> pa.Table:
    """One row about all rows of some users: `Counts`, where items are the smallest hashes of the items."""
    bucket = rows["bucket"][0].as_py()
    if bucket == INCOMPLETE:
        nothing = dict.fromkeys((*_SUMS, "first", "last"), 0) | dict.fromkeys(("items", *_VECTORS), ())
        return _one_row(nothing | {"bucket": bucket, "rows": rows.num_rows})
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    as_written = np.lexsort((columns["order"], columns["user"]))
    user, time = columns["user"][as_written], columns["time"][as_written]
    same = user[1:] == user[:-1]
    disorder = int((same & (time[1:] < time[:-1])).sum())

    by_time = as_written[np.lexsort((time, user))]  # stable: ties stay as they are written
    user, time = columns["user"][by_time], columns["time"][by_time]
    same = user[1:] == user[:-1]
    session_id = columns["session"][by_time] if "session" in columns else None
    tables = {gap: session_table(user, time, session_numbers(user, time, *_rule(gap, session_id))) for gap in gaps}
    levels = tables[level_gap]
    starts = first_rows(user)
    requests = np.diff(np.append(starts, len(user)))
    return _one_row(
        {
            "bucket": bucket,
            "rows": len(user),
            "users": len(starts),
            "items": np.sort(np.unique(columns["item"]).view(np.uint64))[:SKETCH].view(np.int64),
            "first": int(time.min()),
            "last": int(time.max()),
            # Equal rows are of one user, and a user's rows are in one bucket.
            "duplicates": len(user) - len(np.unique(columns["row"])),
            "repeats": len(user) - len(np.unique(columns["used"])),
            "disorder": disorder,
            "simultaneous": int((same & (time[1:] == time[:-1])).sum()),
            "timed": int((time % _DAY_MS != 0).sum()),
            "sessions": [len(table) for table in tables.values()],
            "single": [_single(table) for table in tables.values()],
            "depth_levels": _histogram(depth_levels(levels.user, levels.depth)),
            "frequency_levels": _histogram(frequency_levels(levels.user, levels.revisit_ms)),
            "long_users": [int((requests > 2 * length).sum()) for length in LENGTHS],
        }
    )


def _rule(gap: float | None, session_id: np.ndarray | None) -> tuple[int, np.ndarray | None]:
    return (0, session_id) if gap is None else (round(gap * _MINUTE_MS), None)


def _single(table: SessionTable) -> int:
    return int((np.diff(np.append(first_rows(table.user), len(table))) == 1).sum())


def _histogram(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels[~np.isnan(levels)].astype(np.int64), minlength=MAX_LEVEL + 1)


def _one_row(values: dict[str, Any]) -> pa.Table:
    number, several = pa.int64(), pa.list_(pa.int64())
    columns = {name: pa.array([v], number if isinstance(v, int) else several) for name, v in values.items()}
    return pa.table(dict(sorted(columns.items())))


def distinct_items(hashes: np.ndarray) -> int:
    """Number of distinct items, from the smallest hashes of each bucket (k minimum values, Bar-Yossef et al. 2002)."""
    smallest = np.unique(hashes.view(np.uint64))[:SKETCH]
    if len(smallest) < SKETCH:
        return len(smallest)
    return round((SKETCH - 1) / (float(smallest[-1]) * 2.0**-64))
