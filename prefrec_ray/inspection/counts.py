"""Counts of a log, read as `prepare` reads it: sessions at several session timeouts, segments, repeated rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.dataset.prepare.rows import in_pages
from prefrec_ray.errors import unwrapped_errors
from prefrec_ray.ids import changes, codes, run_lengths
from prefrec_ray.logs.log import Log, equal_rows
from prefrec_ray.mdp.pages import Pages

TIMEOUTS_MINUTES = (10.0, 30.0, 60.0, 120.0, 1440.0)
#: Lengths of segments, in steps. Two of a user's must fit: the user needs more than twice this number of steps.
LENGTHS = (100, 50, 20, 10, 5)
#: Rows after which reading ends.
_ROWS = 1 << 22
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over the first rows of a log."""

    rows: int
    steps: int  # pages; impressions of a log without pages
    users: int
    items: int
    first: int  # ms, UTC
    last: int
    repeats: int  # rows that are equal to an earlier one in every column that was read
    shared: int  # rows with the user and the time of another row; 0 if the log has pages
    timed: int  # rows with a time of day (not midnight, UTC)
    sessions: dict[float | None, int]  # by the minutes that end a session; None: the log's own sessions
    long_users: tuple[int, ...]  # users with more than 2 * LENGTHS steps
    partial: bool  # the log has more rows

    @property
    def shared_rows(self) -> str | None:
        """Return one line about rows that may be pages; None if no rows share user and time, or times are days."""
        if not (self.shared and self.timed):
            return None
        share = self.shared / self.rows
        return f"{self.shared:,} rows ({share:.1%}) share user and time with another; page: time if a page showed them"


def first_rows_of(log: Log) -> tuple[pa.Table | None, bool]:
    """Return the first rows of a log (None: it has none), and whether it has more."""
    tables: list[pa.Table] = []
    for table in _tables(log):
        if sum(map(len, tables)) >= _ROWS:
            return pa.concat_tables(tables), True
        tables.append(table)
    return (pa.concat_tables(tables) if tables else None), False


def _tables(log: Log) -> Iterator[pa.Table]:
    """Yield tables with rows, read in this process if possible, else by Ray Data."""
    with unwrapped_errors():
        read = log.tables or (lambda: log.interactions().iter_batches(batch_size=None, batch_format="pyarrow"))
        yield from (table for table in read() if table.num_rows)


def count(rows: pa.Table, timeout_minutes: float = 30.0, partial: bool = False) -> Counts:
    """Count canonical rows, in any order."""
    items = pc.count_distinct(rows["item_id"]).as_py()
    rows = rows.sort_by([(name, "ascending") for name in ("user_id", "timestamp", "order")])
    repeats = int(equal_rows(rows).sum())
    if "examined" in rows.column_names:
        rows = rows.filter(rows["examined"]).drop_columns(["examined"])
    rows = in_pages(rows, np.ones(len(rows), bool))
    pages = Pages.from_table(rows)
    at, time = pages.first, rows["timestamp"].to_numpy()
    new_user, of_page = changes(codes(rows["user_id"])[at]), time[at]
    gaps = np.diff(of_page, prepend=of_page[:1])
    sessions: dict[float | None, int] = {
        timeout: int((new_user | (gaps > timeout * _MINUTE_MS)).sum())
        for timeout in sorted({*TIMEOUTS_MINUTES, timeout_minutes})
    }
    if "session_id" in rows.column_names:
        sessions[None] = int((new_user | changes(codes(rows["session_id"])[at])).sum())
    same = ~(new_user | changes(of_page)) & ("page" not in rows.column_names)
    steps = run_lengths(pages.of_user, len(at))
    return Counts(
        rows=len(rows),
        steps=len(at),
        users=len(steps),
        items=items,
        first=int(time.min()),
        last=int(time.max()),
        repeats=repeats,
        shared=int((same | np.append(same[1:], False)).sum()),
        timed=int((time % _DAY_MS != 0).sum()),
        sessions=sessions,
        long_users=tuple(int((steps > 2 * length).sum()) for length in LENGTHS),
        partial=partial,
    )
