"""Removal of rows from an event log: the rows of some users, or rows that are older than a limit.

A removed row becomes a row of the kind SKIPPED, without content. So all other rows keep their numbers, event ids are
never issued again, and a row that is missing is still damage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.ids import ids_from_text
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX, Kind, read_about
from prefrec_ray.logs.events.segments import PARQUET, first_row, list_segments, read_tables, write_segment

#: Mask of the rows to remove, bool [N], of a table with the columns `_COLUMNS`.
Chosen = Callable[[pa.Table], np.ndarray]
_COLUMNS = ["kind", "timestamp", "user", "user_number", "received"]
#: Suffix of files with the bytes of a damaged or unfinished record.
_DAMAGED = ".damaged"


def of_users(users: Sequence[str]) -> Chosen:
    """Choose all rows of these users. An id in `users` is a text, also for logs with whole numbers."""
    texts, numbers = ids_from_text(users, pa.string()), ids_from_text(users, pa.int64())

    def chosen(rows: pa.Table) -> np.ndarray:
        return pc.or_(pc.is_in(rows["user"], texts), pc.is_in(rows["user_number"], numbers)).to_numpy()

    return chosen


def received_before(limit: int) -> Chosen:
    """Choose recommendations and feedback that the server received before the time `limit`, ms."""
    kinds = pa.array([Kind.RECOMMENDED, Kind.FEEDBACK], pa.int8())

    def chosen(rows: pa.Table) -> np.ndarray:
        old = pc.less(pc.coalesce(rows["received"], rows["timestamp"]), limit)
        return pc.and_(pc.is_in(rows["kind"], kinds), old).to_numpy()

    return chosen


def any_row(folder: str, chosen: Chosen) -> bool:
    """Return True if the log in `folder` has rows to remove. Raises `UserError` for a damaged log."""
    tables = read_tables(list_segments(folder), read_about(folder).columns, names=_COLUMNS)
    return any(chosen(table).any() for table in tables)


def remove_rows(folder: str, chosen: Chosen) -> int:
    """Remove rows from all files of the log in `folder` except the last one; return the number of removed rows.

    Files with removed rows become Parquet. A server may continue to write. Each file is replaced in one step; after a
    kill, a second call removes the other rows. Raises `UserError` for a damaged file, and if another process removes
    rows or compacts the log.
    """
    columns, removed = read_about(folder).columns, 0
    with storage.claimed(storage.join(folder, SEGMENTS)) as partial:
        for file, following in pairwise(list_segments(folder)):
            end = first_row(following)
            masks = [chosen(table) for table in read_tables([file], columns, end=end, names=_COLUMNS)]
            mask = np.concatenate([np.zeros(0, bool), *masks])
            if mask.any():
                rows = pa.concat_tables(read_tables([file], columns, end=end))
                write_segment(file, _emptied(rows, mask), partial)
                removed += int(mask.sum())
            path = Path(storage.absolute(file))
            if path.with_suffix(PARQUET).exists():
                path.with_suffix(SUFFIX).unlink(missing_ok=True)
        storage.sync(storage.absolute(storage.join(folder, SEGMENTS)))
    return removed


def remove_damaged(folder: str, chosen: Callable[[Path], bool]) -> int:
    """Remove the chosen files with bytes of damaged or unfinished records; return the number of removed files."""
    paths = [Path(storage.absolute(file)) for file in storage.list_files(storage.join(folder, SEGMENTS), _DAMAGED)]
    removed = [path for path in paths if chosen(path)]
    for path in removed:
        path.unlink()
    return len(removed)


def with_bytes_of(users: Sequence[str]) -> Callable[[Path], bool]:
    """Choose files that contain the bytes of an id, as text or as a number of 64 bits. Other users may have these."""
    numbers = ids_from_text(users, pa.int64()).to_pylist()
    patterns = [user.encode() for user in users] + [number.to_bytes(8, "little", signed=True) for number in numbers]

    def chosen(path: Path) -> bool:
        content = path.read_bytes()
        return any(pattern in content for pattern in patterns)

    return chosen


def _emptied(rows: pa.Table, mask: np.ndarray) -> pa.Table:
    """Return `rows` with rows of the kind SKIPPED, as `Event` has it, in the place of the rows in `mask`."""
    index = pa.array(np.arange(len(rows)), mask=mask)  # null: a row of nulls
    fills = {"kind": int(Kind.SKIPPED), "timestamp": 0, "event_id": ""}
    columns = []
    for name in rows.column_names:
        column = rows[name]
        if name != "number":
            column = column.take(index)
        if name in fills:
            column = pc.fill_null(column, pa.scalar(fills[name], column.type))
        columns.append(column)
    return pa.table(columns, schema=rows.schema)
