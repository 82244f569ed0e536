"""Compaction of a log: closed files become Parquet files with the same rows, in a fraction of the space.

The Parquet file is read back, compared to the bit, and on the disk before the old file is removed. Whenever the process
is killed, each row is in at least one of the two files, and readers use one of them.
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
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX, read_about
from prefrec_ray.logs.events.segments import first_row, list_segments, parquet_of, read_tables
from prefrec_ray.storage.parquet import seal_parquet


def compact(folder: str, before: float) -> int:
    """Turn files of the log `folder` that were last written before the time `before` into Parquet, except the last one.

    A server may continue to write. `before`: seconds since 1970. Return the number of new files. Raises `UserError` if
    `folder` is not a log on a local disk, a file is damaged, or another process compacts the same log.
    """
    if "://" in folder:
        raise UserError(f"{folder}: found a store; expected a log on a local disk")
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
    """Write the Parquet file of `file`, whose rows end before `end`."""
    rows = pa.concat_tables([columns.empty_table(), *read_tables([file], columns, end=end)])
    content = seal_parquet(rows, compression="zstd")
    if not same(rows, pq.read_table(pa.BufferReader(content), page_checksum_verification=True)):
        raise UserError(f"{file}: its Parquet differs from it; expected the same rows")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(handle)
        os.replace(partial, storage.absolute(parquet_of(file)))
        storage.sync(os.path.dirname(storage.absolute(file)))
    finally:
        Path(partial).unlink(missing_ok=True)


def same(a: pa.Table, b: pa.Table) -> bool:
    """Return True if tables are equal to the bit, including NaN and signs of zeros."""
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
