"""A log counted by buckets of users: sessions at several session timeouts, levels, segments, duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.engagement.levels import MAX_LEVEL, depth_levels, frequency_levels
from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError, unwrapped_errors
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.inspection.rows import INCOMPLETE, LogRows

TIMEOUTS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Lengths of segments, in impressions. Two of a user's must fit: the user needs more than twice as many impressions.
LENGTHS = (100, 50, 20, 10, 5)
SKETCH = 4096  # number of the smallest item hashes that are stored; the number of items has an error of 1.6 %
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_SUMS = ("rows", "users", "duplicates", "repeats", "disorder", "simultaneous", "timed")
_VECTORS = ("sessions", "single", "depth_levels", "frequency_levels", "long_users")


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over a log. `timeouts` are the minutes that end the sessions; None stands for the log's own sessions."""

    incomplete: int  # rows without a readable user, item or time; all other counts are about the other rows
    rows: int
    users: int
    items: int  # exact below 4,096, else an estimate
    first: int  # ms, UTC
    last: int
    duplicates: int  # rows that are equal to an earlier one in every column
    repeats: int  # rows that are equal to an earlier one in every column that has a role
    disorder: int  # rows with an earlier time than the user's previous row
    simultaneous: int  # rows with the user and time of another row, except one of them
    timed: int  # rows with a time of day (not midnight, UTC)
    timeouts: tuple[float | None, ...]
    sessions: np.ndarray  # int64 [T]
    single: np.ndarray  # int64 [T], users with one session
    level_timeout: float | None  # the timeout of the levels
    depth_levels: np.ndarray  # int64 [6], sessions at each level (Eq. 11)
    frequency_levels: np.ndarray  # int64 [6], sessions with a frequency level
    long_users: np.ndarray  # int64 [L], users with more than 2 * LENGTHS impressions


def count(rows: LogRows, timeout_minutes: float = 30.0, named_sessions: bool = False) -> Counts:
    """Count the rows of `rows_of_files` or `rows_of_log`, by buckets in Ray Data; a single bucket in this process.

    Levels are for sessions at `timeout_minutes`, or for the log's own sessions. Raises `UserError` for an invalid line
    or value, and if no row is complete.
    """
    timeouts = (*sorted({*TIMEOUTS_MINUTES, timeout_minutes}), *((None,) if named_sessions else ()))
    level_timeout = None if named_sessions else timeout_minutes
    summarise = partial(summarise_bucket, timeouts=timeouts, level_timeout=level_timeout)
    with unwrapped_errors():
        if rows.buckets == 1:  # processes for a shuffle take longer to start
            tables = ray.get(rows.dataset.to_arrow_refs())
            summaries = [row for table in _by_bucket(pa.concat_tables(tables)) for row in summarise(table).to_pylist()]
        else:
            groups = rows.dataset.groupby("bucket", num_partitions=rows.buckets)
            summaries = groups.map_groups(summarise, batch_format="pyarrow").take_all()
    incomplete = sum(int(part["rows"]) for part in summaries if part["bucket"] == INCOMPLETE)
    parts = [part for part in summaries if part["bucket"] != INCOMPLETE]
    if not parts:
        raise UserError(f"all {incomplete} rows lack a valid user, item or time; expected interactions")

    def total(name: str) -> Any:
        return np.sum([np.asarray(part[name]) for part in parts], axis=0)

    sums: dict[str, Any] = {name: int(total(name)) for name in _SUMS}
    return Counts(
        incomplete=incomplete,
        **sums,
        items=distinct_items(np.concatenate([np.asarray(part["items"], dtype=np.int64) for part in parts])),
        first=min(int(part["first"]) for part in parts),
        last=max(int(part["last"]) for part in parts),
        timeouts=timeouts,
        level_timeout=level_timeout,
        **{name: total(name) for name in _VECTORS},
    )


def _by_bucket(rows: pa.Table) -> Iterator[pa.Table]:
    for bucket in pc.unique(rows["bucket"]):
        yield rows.filter(pc.equal(rows["bucket"], bucket))


def summarise_bucket(rows: pa.Table, timeouts: tuple[float | None, ...], level_timeout: float | None) -> pa.Table:
    """Return one row about all rows of some users: the fields of `Counts`; `items` are the smallest hashes."""
    bucket = rows["bucket"][0].as_py()
    if bucket == INCOMPLETE:
        zeros = dict.fromkeys((*_SUMS, "first", "last"), 0) | dict.fromkeys(("items", *_VECTORS), ())
        return _one_row(zeros | {"bucket": bucket, "rows": rows.num_rows})
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    as_written = np.lexsort((columns["order"], columns["user"]))
    user, time = columns["user"][as_written], columns["time"][as_written]
    same = user[1:] == user[:-1]
    disorder = int((same & (time[1:] < time[:-1])).sum())

    by_time = as_written[np.lexsort((time, user))]  # stable: rows of one time stay in their order
    user, time = columns["user"][by_time], columns["time"][by_time]
    same = user[1:] == user[:-1]
    session_id = columns["session"][by_time] if "session" in columns else None
    tables = {t: session_table(user, time, session_numbers(user, time, *_rule(t, session_id))) for t in timeouts}
    levels = tables[level_timeout]
    starts = first_rows(user)
    requests = run_lengths(starts, len(user))
    return _one_row(
        {
            "bucket": bucket,
            "rows": len(user),
            "users": len(starts),
            "items": np.sort(np.unique(columns["item"]).view(np.uint64))[:SKETCH].view(np.int64),
            "first": int(time.min()),
            "last": int(time.max()),
            # Equal rows have one user, and all rows of a user are in one bucket.
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


def _rule(timeout: float | None, session_id: np.ndarray | None) -> tuple[int, np.ndarray | None]:
    return (0, session_id) if timeout is None else (round(timeout * _MINUTE_MS), None)


def _single(table: SessionTable) -> int:
    return int((run_lengths(first_rows(table.user), len(table)) == 1).sum())


def _histogram(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels[~np.isnan(levels)].astype(np.int64), minlength=MAX_LEVEL + 1)


def _one_row(values: dict[str, Any]) -> pa.Table:
    number, several = pa.int64(), pa.list_(pa.int64())
    columns = {name: pa.array([v], number if isinstance(v, int) else several) for name, v in values.items()}
    return pa.table(dict(sorted(columns.items())))


def distinct_items(hashes: np.ndarray) -> int:
    """Estimate the number of items from the smallest hashes of each bucket (k minimum values, Bar-Yossef 2002)."""
    smallest = np.unique(hashes.view(np.uint64))[:SKETCH]
    if len(smallest) < SKETCH:
        return len(smallest)
    return round((SKETCH - 1) / (float(smallest[-1]) * 2.0**-64))
