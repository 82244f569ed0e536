"""Files of a log that nobody writes to any more become Parquet: the same rows, in a fraction of the room.

The Parquet is read back and compared, to the bit, and is on the disk before the file of before goes: whenever it is
killed, each row is in one of the two, or in both, of which readers take one.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.about import read_about
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX
from prefrec_ray.logs.events.segments import first_row, list_segments, parquet_of, read_tables

_ROW_GROUP = 1 << 16


def compact(folder: str, before: float) -> int:
    """Makes Parquet of the files in the log `folder` that were last written to before the time `before`, but the last.

    A server may go on writing. `before`: seconds since 1970. Returns how many files were made. Raises `UserError` for a
    folder that is no log on a local disk, for a damaged file, and where another process does the same.
    """
    if "://" in folder:
        raise UserError(f"{folder}: found a store; expected a log on a local disk, where its files are made smaller")
    columns, made = read_about(folder).columns, 0
    with storage.claimed(storage.join(folder, SEGMENTS)) as partial:
        files = list_segments(folder)
        for file, following in pairwise(files):
            old = Path(storage.absolute(file)).with_suffix(SUFFIX)
            if not old.exists() or old.stat().st_mtime >= before:
                continue
            if file.endswith(SUFFIX):
                _write(file, first_row(following), columns, partial)
                made += 1
            old.unlink()
    return made


def _write(file: str, end: int, columns: pa.Schema, partial: str) -> None:
    """Writes the Parquet of `file`, whose rows end before `end`."""
    rows = pa.concat_tables([columns.empty_table(), *read_tables([file], columns, end=end)])
    try:
        pq.write_table(rows, partial, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True)
        if not same(rows, pq.read_table(partial, page_checksum_verification=True)):
            raise UserError(f"{file}: its Parquet differs from it; expected the same rows")
        storage.sync(partial)
        os.replace(partial, storage.absolute(parquet_of(file)))
        storage.sync(os.path.dirname(storage.absolute(file)))
    finally:
        Path(partial).unlink(missing_ok=True)


def same(a: pa.Table, b: pa.Table) -> bool:
    """Whether tables are equal to the bit, NaN and signs of zeros included."""
    return a.schema.equals(b.schema) and all(_equal(a[name], b[name]) for name in a.column_names)


def _equal(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    if pa.types.is_list(a.type):
        lengths = pc.list_value_length(a).equals(pc.list_value_length(b))
        return lengths and _equal(_flat(a), _flat(b))
    if pa.types.is_floating(a.type):
        bits = pa.int32() if a.type == pa.float32() else pa.int64()
        return pa.chunked_array([x.view(bits) for x in a.chunks], bits).equals(
            pa.chunked_array([x.view(bits) for x in b.chunks], bits)
        )
    return a.equals(b)


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([x.flatten() for x in lists.chunks], lists.type.value_type)
