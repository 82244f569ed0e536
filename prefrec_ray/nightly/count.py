"""Counts a part of a log in one pass of Ray Data: requests, users, and what each column of feedback holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs import EventsSource, Source, open_log
from prefrec_ray.nightly.check import Column, Counted

#: The position of a request: that of an event log is its row, as rows are only ever added; of others the time.
_OPEN_END = 2**63 - 1


def position_of(source: Source) -> str:
    """The canonical column by which requests of this source are new or not."""
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
    blocks = [block for block in parts.iter_batches(batch_format="pyarrow", batch_size=None) if block.num_rows]
    if not blocks:
        return Counted(first=None, last=None, requests=0, users=0, feedback={})
    table = pa.concat_tables(blocks)
    requests = int(pc.sum(table["requests"]).as_py())
    return Counted(
        first=pc.min(table["first"]).as_py(),
        last=pc.max(table["last"]).as_py(),
        requests=requests,
        users=len(pc.unique(table["user_id"])),
        feedback={
            name: Column(
                low=pc.min(table[f"low {name}"]).as_py(),
                high=pc.max(table[f"high {name}"]).as_py(),
                share=pc.sum(table[f"some {name}"]).as_py() / requests,
            )
            for name in log.feedback
        },
    )


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
