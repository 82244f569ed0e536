"""A log counted by buckets of users: sessions at several session timeouts, levels, segments, repeated rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.engagement.levels import MAX_LEVEL, depth_levels, frequency_levels
from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import unwrapped_errors
from prefrec_ray.ids import first_rows, hash_ids, mix, run_lengths
from prefrec_ray.logs.contract import Part, Reason, merge_reasons
from prefrec_ray.logs.log import Log

TIMEOUTS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Lengths of segments, in impressions. Two of a user's must fit: the user needs more than twice as many impressions.
LENGTHS = (100, 50, 20, 10, 5)
SKETCH = 4096  # number of the smallest item hashes that are stored; the number of items has an error of 1.6 %
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_SUMS = ("rows", "users", "repeats", "timed")
_VECTORS = ("sessions", "single", "depth_levels", "frequency_levels", "long_users")
_ID_KEY, _BUCKET_KEY = 1, 2
_ROWS_OF_BUCKET = 1 << 20
_MIN_BUCKETS, _FEW_ROWS = 4, 1 << 17  # more rows than this take several buckets, to keep several cores busy


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over a log. `timeouts` are the minutes that end the sessions; None stands for the log's own sessions."""

    rows: int
    users: int
    items: int  # exact below 4,096, else an estimate
    first: int  # ms, UTC
    last: int
    repeats: int  # rows that are equal to an earlier one in every column that was read
    timed: int  # rows with a time of day (not midnight, UTC)
    timeouts: tuple[float | None, ...]
    sessions: np.ndarray  # int64 [T]
    single: np.ndarray  # int64 [T], users with one session
    level_timeout: float | None  # the timeout of the levels
    depth_levels: np.ndarray  # int64 [6], sessions at each level (Eq. 11)
    frequency_levels: np.ndarray  # int64 [6], sessions with a frequency level
    long_users: np.ndarray  # int64 [L], users with more than 2 * LENGTHS impressions


class RefusedRows:
    """Rows that `prepare` would refuse: only their numbers and the first row of each kind are kept."""

    def __init__(self) -> None:
        self._kept: Any = ray.remote(num_cpus=0)(_Reasons).remote()

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Collect the bad rows of one piece of the log."""
        part = Part(None)
        yield part
        if part.reasons:
            ray.get(self._kept.put.remote(name, list(part.reasons.values())))

    def reasons(self) -> list[Reason]:
        """Return all kinds of bad rows so far, ordered by their first rows."""
        parts: list[list[Reason]] = ray.get(self._kept.parts.remote())
        return merge_reasons(reason for part in parts for reason in part)


class _Reasons:
    def __init__(self) -> None:
        self._parts: dict[str, list[Reason]] = {}  # by name, since a task may run twice

    def put(self, name: str, reasons: list[Reason]) -> None:
        self._parts[name] = reasons

    def parts(self) -> list[list[Reason]]:
        return list(self._parts.values())


def count(log: Log, timeout_minutes: float = 30.0) -> Counts | None:
    """Count the rows of a log, by buckets in Ray Data; a single bucket in this process. Return None without rows.

    Levels are for sessions at `timeout_minutes`, or for the log's own sessions. Raises `UserError` for an invalid line.
    """
    timeouts = (*sorted({*TIMEOUTS_MINUTES, timeout_minutes}), *((None,) if log.given_sessions else ()))
    level_timeout = None if log.given_sessions else timeout_minutes
    buckets = max(_MIN_BUCKETS if log.rows > _FEW_ROWS else 1, log.rows // _ROWS_OF_BUCKET)
    rows = log.interactions.map_batches(
        _hashed, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, fn_kwargs={"buckets": buckets}
    )
    summarise = partial(summarise_bucket, timeouts=timeouts, level_timeout=level_timeout)
    with unwrapped_errors():
        if buckets == 1:  # processes for a shuffle take longer to start
            tables = [table for table in ray.get(rows.to_arrow_refs()) if table.num_rows]
            parts = summarise(pa.concat_tables(tables)).to_pylist() if tables else []
        else:
            groups = rows.groupby("bucket", num_partitions=buckets)
            parts = groups.map_groups(summarise, batch_format="pyarrow").take_all()
    if not parts:
        return None

    def total(name: str) -> Any:
        return np.sum([np.asarray(part[name]) for part in parts], axis=0)

    sums: dict[str, Any] = {name: int(total(name)) for name in _SUMS}
    return Counts(
        **sums,
        items=distinct_items(np.concatenate([np.asarray(part["items"], dtype=np.int64) for part in parts])),
        first=min(int(part["first"]) for part in parts),
        last=max(int(part["last"]) for part in parts),
        timeouts=timeouts,
        level_timeout=level_timeout,
        **{name: total(name) for name in _VECTORS},
    )


def _hashed(table: pa.Table, buckets: int) -> pa.Table:
    """Return bucket, user, item, time, row (a hash of all columns)[, session], all int64."""
    user = column_hash(table["user_id"], _ID_KEY)
    row = np.zeros(table.num_rows, dtype=np.uint64)
    for number, name in enumerate(table.column_names):
        if name != "order":
            row = mix(row.view(np.int64), 0) ^ column_hash(table[name], number)
    columns = {
        "bucket": mix(user.view(np.int64), _BUCKET_KEY) % np.uint64(buckets),
        "user": user,
        "item": column_hash(table["item_id"], _ID_KEY),
        "time": table["timestamp"],
        "row": row,
    }
    if "session_id" in table.column_names:
        columns["session"] = column_hash(table["session_id"], _ID_KEY)
    return pa.table({name: v.view(np.int64) if isinstance(v, np.ndarray) else v for name, v in columns.items()})


def column_hash(column: pa.ChunkedArray, key: int) -> np.ndarray:
    """Return hashes, uint64 [n], of ids, numbers or times: equal values, and missing ones, have equal hashes."""
    if pa.types.is_floating(column.type):
        return mix(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy().view(np.int64), key)
    return hash_ids(column, key)


def summarise_bucket(rows: pa.Table, timeouts: tuple[float | None, ...], level_timeout: float | None) -> pa.Table:
    """Return one row about all rows of some users: the fields of `Counts`; `items` are the smallest hashes."""
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    by_time = np.lexsort((columns["time"], columns["user"]))
    user, time = columns["user"][by_time], columns["time"][by_time]
    session_id = columns["session"][by_time] if "session" in columns else None
    tables = {t: session_table(user, time, session_numbers(user, time, *_rule(t, session_id))) for t in timeouts}
    levels = tables[level_timeout]
    starts = first_rows(user)
    requests = run_lengths(starts, len(user))
    return _one_row(
        {
            "rows": len(user),
            "users": len(starts),
            "items": np.sort(np.unique(columns["item"]).view(np.uint64))[:SKETCH].view(np.int64),
            "first": int(time.min()),
            "last": int(time.max()),
            # Equal rows have one user, and all rows of a user are in one bucket.
            "repeats": len(user) - len(np.unique(columns["row"])),
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
