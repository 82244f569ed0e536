"""Partition of the log by users through files. Memory holds one batch of rows, or the rows of one bucket of users.

Each batch of the log is sorted by bucket and written as one file of pieces; a piece is an Arrow stream of the rows of
one bucket. The rows of a bucket are its pieces from all files, in any order; the column `order` restores their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from prefrec_ray import storage
from prefrec_ray.ids import Stream, hash_ids, run_lengths
from prefrec_ray.runtime.progress import Progress

_STAGE = "read the log: rows"
#: Rows per file, of about a hundred bytes each. A bucket gets hundreds of them even if there are thousands of buckets.
_ROWS = 1 << 20


def partition_by_user(
    interactions: ray.data.Dataset, seed: int, buckets: int, folder: str, progress: Progress
) -> dict[int, pa.Table]:
    """Write the rows of a log to files in `folder`; a hash of the user's id determines the bucket.

    Returns the pieces of every bucket with rows, by ascending bucket, for `read_pieces`. `progress` counts rows.
    """
    storage.make_folder(folder)
    written = interactions.map_batches(
        _write_pieces,
        batch_size=_ROWS,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_kwargs={"seed": seed, "buckets": buckets, "folder": folder},
    )
    tables, rows = [], 0
    progress(_STAGE, 0, 0)
    for table in written.iter_batches(batch_size=None, batch_format="pyarrow"):
        if table.num_rows:
            tables.append(table)
            rows += pc.sum(table["rows"]).as_py()
            progress(_STAGE, rows, 0)
    if not tables:
        return {}
    progress(_STAGE, rows, rows)
    pieces = pa.concat_tables(tables).sort_by("bucket")
    present, first = np.unique(pieces["bucket"].to_numpy(), return_index=True)
    sizes = run_lengths(first, len(pieces))
    return {int(b): pieces.slice(begin, size) for b, begin, size in zip(present, first, sizes, strict=True)}


def read_pieces(pieces: pa.Table, folder: str) -> pa.Table:
    """Return the rows of one bucket."""
    tables = []
    for piece in pieces.to_pylist():
        system, path = storage.filesystem(storage.join(folder, piece["file"]))
        with system.open_input_file(path) as stream:
            tables.append(pa.ipc.open_stream(stream.read_at(piece["bytes"], piece["begin"])).read_all())
    return pa.concat_tables(tables)


def _write_pieces(rows: pa.Table, seed: int, buckets: int, folder: str) -> Iterator[pa.Table]:
    """Write one file, and yield one row per piece: bucket, name of the file, first byte, bytes, and rows."""
    if not rows.num_rows:
        return
    bucket = (hash_ids(rows["user_id"], seed, Stream.BUCKET) % np.uint64(buckets)).astype(np.int64)
    order = bucket.argsort(kind="stable")
    rows = rows.take(pa.array(order))
    present, first = np.unique(bucket[order], return_index=True)
    sizes = run_lengths(first, len(order))
    # A task may run twice: each run writes its own file, and only the returned files are read.
    file = uuid4().hex
    system, path = storage.filesystem(storage.join(folder, file))
    borders = [0]
    with system.open_output_stream(path) as stream:
        for begin, size in zip(first, sizes, strict=True):
            with pa.ipc.new_stream(stream, rows.schema) as writer:
                writer.write_table(rows.slice(begin, size))
            borders.append(stream.tell())
    yield pa.table(
        {
            "bucket": present,
            "file": [file] * len(present),
            "begin": borders[:-1],
            "bytes": np.diff(borders),
            "rows": sizes,
        }
    )
