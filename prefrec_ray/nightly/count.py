"""Counts of a part of a log, in one pass of Ray Data: impressions, users, and the values of each column of feedback."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs import EventsSource, Source, open_log
from prefrec_ray.logs.contract import ROWS_OF_FILE
from prefrec_ray.logs.log import Log
from prefrec_ray.nightly.check import FeedbackStatistics, NightCounts, Span

#: All positions of a log, times or row numbers.
ALL: Span = (-(2**63) + 1, 2**63 - 1)


def ranges(source: Source) -> tuple[Span, ...]:
    """Return the possible positions in each log of `source`.

    In an event log a position is the number of a row, which only grows. In other sources it is a time. A late
    impression, with a time before the end of the last night, is used for training, but is not counted by any night.
    """
    if isinstance(source, EventsSource):
        return tuple((log * ROWS_OF_FILE, (log + 1) * ROWS_OF_FILE - 1) for log in range(len(source.paths)))
    return (ALL,)


def count(source: Source, seed: int, spans: tuple[Span, ...]) -> NightCounts:
    """Count the impressions of `source` at the positions `spans`, at most one span per log.

    Raises `UserError` like `open_log`, and for an invalid row.
    """
    log, position = _opened(source, seed, spans)
    parts = log.interactions.map_batches(
        _by_user,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"position": position, "spans": spans, "feedback": log.feedback},
    )
    total = _Total(log.feedback, len(spans))
    for block in parts.iter_batches(batch_format="pyarrow", batch_size=None):
        if block.num_rows:
            total.add(block)
    return total.counted()


def _opened(source: Source, seed: int, spans: tuple[Span, ...]) -> tuple[Log, str]:
    """Return the log, and its column of positions. Only the files of an event log with these rows are read."""
    if isinstance(source, EventsSource):
        from prefrec_ray.logs.readers.events import open_events

        return open_events(source, spans), "order"
    return open_log(source, seed), "timestamp"


class _Total:
    """Sums over blocks, with the ids of the users and three numbers per column in memory."""

    def __init__(self, feedback: tuple[str, ...], spans: int) -> None:
        self._feedback = feedback
        self._users: pa.Array | None = None
        self._requests = 0
        self._ends: list[list[int]] = [[] for _ in range(spans)]
        self._columns = dict.fromkeys(feedback, (math.inf, -math.inf, 0))

    def add(self, block: pa.Table) -> None:
        """Add a block that `_by_user` made."""
        users = block["user_id"].combine_chunks()
        self._users = users if self._users is None else pc.unique(pa.chunked_array([self._users, users]))
        self._requests += pc.sum(block["requests"]).as_py()
        for number, ends in enumerate(self._ends):
            mine = block.filter(pc.equal(block["span"], number))
            if len(mine):
                ends += [pc.min(mine["first"]).as_py(), pc.max(mine["last"]).as_py()]
                ends[:] = [min(ends), max(ends)]
        for name, (low, high, some) in self._columns.items():
            low = min(low, pc.min(block[f"low {name}"]).as_py())
            high = max(high, pc.max(block[f"high {name}"]).as_py())
            self._columns[name] = low, high, some + pc.sum(block[f"some {name}"]).as_py()

    def counted(self) -> NightCounts:
        """Return the counts of all blocks."""
        if self._users is None:
            return NightCounts(spans=(), requests=0, users=0, feedback={})
        columns = {
            name: FeedbackStatistics(low=low, high=high, share=some / self._requests)
            for name, (low, high, some) in self._columns.items()
        }
        spans = tuple((ends[0], ends[1]) for ends in self._ends if ends)
        return NightCounts(spans=spans, requests=self._requests, users=len(self._users), feedback=columns)


def _by_user(rows: pa.Table, position: str, spans: tuple[Span, ...], feedback: tuple[str, ...]) -> pa.Table:
    """Return one row per user and span of this block."""
    place = rows[position].to_numpy()
    of_span = np.full(len(rows), -1)
    for number, (first, last) in enumerate(spans):
        of_span[(place >= first) & (place <= last)] = number
    rows = rows.append_column("span", pa.array(of_span)).filter(pa.array(of_span >= 0))
    columns = {"user_id": rows["user_id"], "span": rows["span"], "place": rows[position]}
    sums: list[tuple[str, str]] = [("place", "count"), ("place", "min"), ("place", "max")]
    names = ["requests", "first", "last"]
    for name in feedback:
        values = rows[name]
        columns |= {name: values, f"some {name}": pa.array((values.to_numpy() != 0).astype(np.int64))}
        sums += [(name, "min"), (name, "max"), (f"some {name}", "sum")]
        names += [f"low {name}", f"high {name}", f"some {name}"]
    made = pa.table(columns).group_by(["user_id", "span"]).aggregate(sums)
    by_sum = {f"{column}_{kind}": made[f"{column}_{kind}"] for column, kind in sums}
    values_of = dict(zip(names, by_sum.values(), strict=True))
    return pa.table({"user_id": made["user_id"], "span": made["span"], **values_of})
