"""Counts a part of a log in one pass of Ray Data: requests, users, and what each column of feedback holds."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs import EventsSource, Source, open_log
from prefrec_ray.nightly.check import Column, Counted

_OPEN_END = 2**63 - 1


def position_of(source: Source) -> str:
    """The canonical column by which requests are new or not: the row of an event log, which only grows; else the time.

    So of other sources a request that comes late, with a time before the last night's end, is learned from and counted
    by no night.
    """
    return "order" if isinstance(source, EventsSource) else "timestamp"


def count(source: Source, seed: int, first: int | None = None, last: int | None = None) -> Counted:
    """The requests of `source` at positions `first` to `last` (both inclusive; None: no bound).

    Raises `UserError` as `open_log` does, and for a row that breaks the contract of logs.
    """
    log = open_log(source, seed)
    bounds = -_OPEN_END if first is None else first, _OPEN_END if last is None else last
    parts = log.interactions.map_batches(
        _by_user,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"position": position_of(source), "bounds": bounds, "feedback": log.feedback},
    )
    total = _Total(log.feedback)
    for block in parts.iter_batches(batch_format="pyarrow", batch_size=None):
        if block.num_rows:
            total.add(block)
    return total.counted()


class _Total:
    """What blocks hold together: in memory are the ids of the users, and two numbers a column."""

    def __init__(self, feedback: tuple[str, ...]) -> None:
        self._feedback = feedback
        self._users: pa.Array | None = None
        self._requests = 0
        self._ends: list[int] = []
        self._columns = dict.fromkeys(feedback, (math.inf, -math.inf, 0))

    def add(self, block: pa.Table) -> None:
        """Takes in what `_by_user` made."""
        users = block["user_id"].combine_chunks()
        self._users = users if self._users is None else pc.unique(pa.chunked_array([self._users, users]))
        self._requests += pc.sum(block["requests"]).as_py()
        ends = [*self._ends, pc.min(block["first"]).as_py(), pc.max(block["last"]).as_py()]
        self._ends = [min(ends), max(ends)]
        for name, (low, high, some) in self._columns.items():
            low = min(low, pc.min(block[f"low {name}"]).as_py())
            high = max(high, pc.max(block[f"high {name}"]).as_py())
            self._columns[name] = low, high, some + pc.sum(block[f"some {name}"]).as_py()

    def counted(self) -> Counted:
        """All of it."""
        if self._users is None:
            return Counted(first=None, last=None, requests=0, users=0, feedback={})
        columns = {
            name: Column(low=low, high=high, share=some / self._requests)
            for name, (low, high, some) in self._columns.items()
        }
        first, last = self._ends
        return Counted(first=first, last=last, requests=self._requests, users=len(self._users), feedback=columns)


def _by_user(rows: pa.Table, position: str, bounds: tuple[int, int], feedback: tuple[str, ...]) -> pa.Table:
    """A row a user of this part of the log."""
    place = rows[position].to_numpy()
    rows = rows.filter(pa.array((place >= bounds[0]) & (place <= bounds[1])))
    columns = {"user_id": rows["user_id"], "place": rows[position]}
    sums: list[tuple[str, str]] = [("place", "count"), ("place", "min"), ("place", "max")]
    names = ["requests", "first", "last"]
    for name in feedback:
        values = rows[name]
        columns |= {name: values, f"some {name}": pa.array((values.to_numpy() != 0).astype(np.int64))}
        sums += [(name, "min"), (name, "max"), (f"some {name}", "sum")]
        names += [f"low {name}", f"high {name}", f"some {name}"]
    made = pa.table(columns).group_by("user_id").aggregate(sums)
    by_sum = {f"{column}_{kind}": made[f"{column}_{kind}"] for column, kind in sums}
    return pa.table({"user_id": made["user_id"], **dict(zip(names, by_sum.values(), strict=True))})
