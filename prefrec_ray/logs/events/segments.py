"""The files of a log, named by their first row: Arrow streams as they were written, or Parquet (compact.py).

A file may become Parquet while somebody reads the log: both hold the same rows, and either may be read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX, pieces, whole_bytes

PARQUET = ".parquet"
_ROWS = 1 << 16


def list_segments(folder: str) -> list[str]:
    """The files of the log in `folder`, one for each first row, in their order: the Parquet where there are both."""
    files: dict[int, str] = {}
    for suffix in (SUFFIX, PARQUET):
        files |= {first_row(file): file for file in storage.list_files(storage.join(folder, SEGMENTS), suffix)}
    return [files[first] for first in sorted(files)]


def first_row(file: str) -> int:
    """The number of the first row of a file. Raises `UserError` for a name that is not of the log."""
    stem = posixpath.basename(str(file)).partition(".")[0]
    if not stem.isdigit():
        raise UserError(f"{file}: found in the folder of the log's files; expected names of a number")
    return int(stem)


def parquet_of(file: str) -> str:
    """The name of a file once it is Parquet."""
    return str(file).removesuffix(SUFFIX) + PARQUET


def read_tables(
    files: Sequence[str],
    columns: pa.Schema,
    since: int = 0,
    end: int | None = None,
    names: list[str] | None = None,
    rows: int = _ROWS,
) -> Iterator[pa.Table]:
    """The rows of `files`, which follow each other, from number `since` up to `end` (None: all that are whole).

    In tables of some `rows`; with `names` of these columns alone. Raises `UserError` where rows are missing or damaged.
    """
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for batch in _rows(files, columns, since, end, names):
        held.append(batch if names is None else batch.select(names))
        held_rows += batch.num_rows
        if held_rows >= rows:
            yield pa.Table.from_batches(held).combine_chunks()
            held, held_rows = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _rows(
    files: Sequence[str], columns: pa.Schema, since: int, end: int | None, names: list[str] | None
) -> Iterator[pa.RecordBatch]:
    ends = [*map(first_row, files[1:]), end][: len(files)]
    for file, stop in zip(files, ends, strict=True):
        at = first_row(file)
        if stop is not None and stop <= since:
            continue
        for batch in _batches(file, columns, names):
            first, at = at, at + batch.num_rows
            if stop is not None and first >= stop:
                break
            low, high = max(0, since - first), batch.num_rows if stop is None else min(at, stop) - first
            if low < high:
                yield batch.slice(low, high - low)
        if stop is not None and at < stop:
            raise UserError(
                f"{file}: whole up to row {at}; expected rows up to {stop}: it is damaged, or one is missing"
            )
        if stop is None and file.endswith(SUFFIX):
            whole_bytes(content_of(file), columns, file)  # an unfinished record at the end is none of a running server


def _batches(file: str, columns: pa.Schema, names: list[str] | None) -> Iterator[pa.RecordBatch]:
    if file.endswith(SUFFIX):
        try:
            content = content_of(file)
        except FileNotFoundError:  # it has become Parquet meanwhile
            file = parquet_of(file)
        else:
            yield from (piece.batch for piece in pieces(content, columns))
            return
    system, path = storage.filesystem(file)
    with readable(file), system.open_input_file(path) as stream:
        parquet = pq.ParquetFile(stream, page_checksum_verification=True)
        if not parquet.schema_arrow.equals(columns):
            raise UserError(f"{file}: other columns than those of the log; expected them")
        yield from parquet.iter_batches(_ROWS, columns=names, use_threads=False)


@contextmanager
def readable(file: str) -> Iterator[None]:
    """While a Parquet file is read: raises `UserError` where it is missing, or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; expected the files of the log to stay") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: damaged ({str(error).splitlines()[0]})") from error


def content_of(file: str) -> pa.Buffer:
    """All of a file. Raises `FileNotFoundError`."""
    system, path = storage.filesystem(file)
    if system.get_file_info(path).size == 0:
        return pa.py_buffer(b"")
    opened = pa.memory_map(path) if isinstance(system, fs.LocalFileSystem) else system.open_input_file(path)
    with opened as stream:
        return stream.read_buffer()
