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

from prefrec_ray import runtime
from prefrec_ray.dataset.prepare.rows import equal_rows, in_pages, split_examined
from prefrec_ray.engagement import (
    MAX_LEVEL,
    SessionTable,
    depth_levels,
    frequency_levels,
    session_numbers,
    session_table,
)
from prefrec_ray.errors import unwrapped_errors
from prefrec_ray.ids import changes, codes, first_rows, hash_ids, run_lengths
from prefrec_ray.inspection.examination import ITEMS, POSITIONS, Curve, fit_curve
from prefrec_ray.logs.contract import Part, Reason, merge_reasons
from prefrec_ray.logs.log import Log
from prefrec_ray.mdp.pages import Pages

TIMEOUTS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Lengths of segments, in steps. Two of a user's must fit: the user needs more than twice this number of steps.
LENGTHS = (100, 50, 20, 10, 5)
SKETCH = 4096  # number of the smallest item hashes that are stored; the number of items has an error of 1.6 %
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_SUMS = (
    *("rows", "steps", "users", "repeats", "shared", "timed", "sessions", "single"),
    *("depth_levels", "frequency_levels", "long_users"),
)
_CELLS = ("item", "position", "shown", "clicked")  # of the examination curve
_ITEM_KEY, _BUCKET_KEY = 1, 2
_ROWS_OF_BUCKET = 1 << 20


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over a log. `timeouts` are the minutes that end the sessions; None stands for the log's own sessions."""

    rows: int
    steps: int  # pages; impressions of a log without pages
    users: int
    items: int  # exact below 4,096, else an estimate
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
    curve: Curve | None = None  # for logs with positions and feedback, without `examined`


def shared_rows(counts: Counts) -> str | None:
    """Return one line about rows that may be pages, None if no rows share user and time or times are whole days."""
    if not (counts.shared and counts.timed):
        return None
    share = counts.shared / counts.rows
    return f"{counts.shared:,} rows ({share:.1%}) share user and time with another; page: time if a page showed them"


class RefusedRows:
    """Rows that `prepare` would refuse: only their numbers and the first row of each kind are kept."""

    def __init__(self) -> None:
        self._here = _Reasons()
        self._shared: Any = None

    def share(self) -> None:
        """Also collect rows that other processes read: start Ray, and an actor for them."""
        runtime.start_ray()
        self._shared = self._shared or ray.remote(num_cpus=0)(_Reasons).remote()

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Collect the bad rows of one piece of the log."""
        part = Part(None)
        yield part
        if part.reasons:
            self._put(name, part.reasons)

    def _put(self, name: str, reasons: list[Reason]) -> None:
        if self._shared is None:
            self._here.put(name, reasons)
        else:
            ray.get(self._shared.put.remote(name, reasons))

    def reasons(self) -> list[Reason]:
        """Return all kinds of bad rows so far, ordered by their first rows."""
        parts = self._here.parts()
        if self._shared is not None:
            parts += ray.get(self._shared.parts.remote())
        return merge_reasons(reason for part in parts for reason in part)


class _Reasons:
    def __init__(self) -> None:
        self._parts: dict[str, list[Reason]] = {}  # by name, since a task may run twice

    def put(self, name: str, reasons: list[Reason]) -> None:
        self._parts[name] = reasons

    def parts(self) -> list[list[Reason]]:
        return list(self._parts.values())


def is_small(log: Log) -> bool:
    """Return whether a log is counted in this process: processes for a shuffle would take longer to start."""
    return log.rows < 2 * _ROWS_OF_BUCKET


def count(log: Log, timeout_minutes: float = 30.0) -> Counts | None:
    """Count the rows of a log, in this process if it is small, else by buckets in Ray Data. Return None without rows.

    Levels are for sessions at `timeout_minutes`, or for the log's own sessions. Raises `UserError` for an invalid line.
    """
    timeouts = (*sorted({*TIMEOUTS_MINUTES, timeout_minutes}), *((None,) if log.given_sessions else ()))
    level_timeout = None if log.given_sessions else timeout_minutes
    feedback = () if log.has_examined else log.feedback
    summarise = partial(summarise_bucket, timeouts=timeouts, level_timeout=level_timeout, feedback=feedback)
    with unwrapped_errors():
        if is_small(log):
            read = log.tables() if log.tables else ray.get(log.interactions().to_arrow_refs())
            tables = [table for table in read if table.num_rows]
            parts = summarise(pa.concat_tables(tables)).to_pylist() if tables else []
        else:
            buckets = log.rows // _ROWS_OF_BUCKET
            rows = log.interactions().map_batches(
                _with_bucket, batch_size=None, batch_format="pyarrow", fn_kwargs={"buckets": buckets}
            )
            groups = rows.groupby("bucket", num_partitions=buckets)
            parts = groups.map_groups(summarise, batch_format="pyarrow").take_all()
    if not parts:
        return None
    sums = {name: np.sum([np.asarray(part[name]) for part in parts], axis=0) for name in _SUMS}
    plain: dict[str, Any] = {name: total if total.ndim else int(total) for name, total in sums.items()}
    item, *cells = (np.concatenate([np.asarray(part[name], np.int64) for part in parts]) for name in _CELLS)
    sampled = np.isin(item, np.unique(item)[:ITEMS])
    return Counts(
        **plain,
        curve=fit_curve(item[sampled], *(cell[sampled] for cell in cells)),
        items=distinct_items(np.concatenate([np.asarray(part["items"], dtype=np.int64) for part in parts])),
        first=min(int(part["first"]) for part in parts),
        last=max(int(part["last"]) for part in parts),
        timeouts=timeouts,
        level_timeout=level_timeout,
    )


def head(log: Log, rows: int) -> pa.Table:
    """Return the first rows of a log, read in this process if possible."""
    if log.tables is None:
        return pa.concat_tables(ray.get(log.interactions().limit(rows).to_arrow_refs())).slice(0, rows)
    tables: list[pa.Table] = []
    for table in log.tables():
        tables.append(table)
        if sum(map(len, tables)) >= rows:
            break
    return pa.concat_tables(tables).slice(0, rows)


def _with_bucket(table: pa.Table, buckets: int) -> pa.Table:
    bucket = hash_ids(table["user_id"], _BUCKET_KEY) % np.uint64(buckets)
    return table.append_column("bucket", pa.array(bucket.astype(np.int64)))


def summarise_bucket(
    rows: pa.Table,
    timeouts: tuple[float | None, ...],
    level_timeout: float | None,
    feedback: tuple[str, ...] = (),
) -> pa.Table:
    """Return one row about all rows of some users: the fields of `Counts`; `items` are the smallest hashes.

    `feedback`: columns that show that an item was examined, for the examination curve.
    """
    rows = rows.sort_by([(name, "ascending") for name in ("user_id", "timestamp", "order")])
    repeats = int(equal_rows(rows).sum())
    rows, _ = split_examined(in_pages(rows, np.ones(len(rows), bool)))
    pages = Pages.from_table(rows)
    starts, at = pages.of_user, pages.first
    time = rows["timestamp"].to_numpy()
    user, of_page = codes(rows["user_id"])[at], time[at]
    session_id = codes(rows["session_id"])[at] if "session_id" in rows.column_names else None
    tables = {t: session_table(user, of_page, session_numbers(user, of_page, *_rule(t, session_id))) for t in timeouts}
    levels = tables[level_timeout]
    same = ~(changes(user) | changes(of_page)) & ("page" not in rows.column_names)
    steps = run_lengths(starts, len(at))
    summary = {
        "rows": len(rows),
        "steps": len(at),
        "users": len(starts),
        "items": np.sort(hash_ids(pc.unique(rows["item_id"]), _ITEM_KEY))[:SKETCH].view(np.int64),
        "first": int(time.min(initial=np.iinfo(np.int64).max)),
        "last": int(time.max(initial=0)),
        "repeats": repeats,
        "shared": int((same | np.append(same[1:], False)).sum()),
        "timed": int((time % _DAY_MS != 0).sum()),
        "sessions": [len(table) for table in tables.values()],
        "single": [_single(table) for table in tables.values()],
        "depth_levels": _histogram(depth_levels(levels.user, levels.depth)),
        "frequency_levels": _histogram(frequency_levels(levels.user, levels.revisit_ms)),
        "long_users": [int((steps > 2 * length).sum()) for length in LENGTHS],
        **_cells(rows, feedback),
    }
    return pa.table({name: [value] for name, value in summary.items()})


def _cells(rows: pa.Table, feedback: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the rows of sampled items at each position, and the rows with feedback, as int64 [C] by `_CELLS`."""
    if "position" not in rows.column_names or not feedback:
        return dict.fromkeys(_CELLS, np.zeros(0, np.int64))
    item = (hash_ids(rows["item_id"], _ITEM_KEY) >> np.uint64(1)).astype(np.int64)
    sampled = np.isin(item, np.unique(item)[:ITEMS])
    clicked = np.any([rows[name].to_numpy() > 0 for name in feedback], axis=0)
    table = pa.table({"item": item, "position": rows["position"], "clicked": clicked.astype(np.int64)})
    table = table.filter(pc.and_(pa.array(sampled), pc.less(table["position"], POSITIONS)))
    cells = table.group_by(["item", "position"]).aggregate([("clicked", "count"), ("clicked", "sum")])
    return dict(zip(_CELLS, (column.to_numpy() for column in cells.columns), strict=True))


def _rule(timeout: float | None, session_id: np.ndarray | None) -> tuple[int, np.ndarray | None]:
    return (0, session_id) if timeout is None else (round(timeout * _MINUTE_MS), None)


def _single(table: SessionTable) -> int:
    return int((run_lengths(first_rows(table.user), len(table)) == 1).sum())


def _histogram(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels[~np.isnan(levels)].astype(np.int64), minlength=MAX_LEVEL + 1)


def distinct_items(hashes: np.ndarray) -> int:
    """Estimate the number of items from the smallest hashes of each bucket (k minimum values, Bar-Yossef 2002)."""
    smallest = np.unique(hashes.view(np.uint64))[:SKETCH]
    if len(smallest) < SKETCH:
        return len(smallest)
    return round((SKETCH - 1) / (float(smallest[-1]) * 2.0**-64))
