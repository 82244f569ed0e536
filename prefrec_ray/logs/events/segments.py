"""Files of a log, named by their first row: Arrow streams as they were written, or Parquet after compaction or removal.

A file may become Parquet while another process reads the log: both contain the same rows, and either may be read.
Parquet takes a fraction of the space. It is read back, compared to the bit, and on the disk before the old file is
removed. Whenever the process is killed, each row is in at least one of the two files.

A removed row becomes a row of the kind SKIPPED, without content. So all other rows keep their numbers, event ids are
never issued again, and a row that is missing is still damage.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.ids import ids_from_text
from prefrec_ray.logs.events.format import (
    END,
    SEGMENTS,
    SUFFIX,
    Event,
    Kind,
    check_rest,
    header_end,
    read_about,
    read_batches,
    same,
)
from prefrec_ray.storage.parquet import open_sealed, seal_parquet

PARQUET = ".parquet"
_ROWS = 1 << 16
#: Mask of the rows to remove, bool [N], of a table with the columns `_COLUMNS`.
Chosen = Callable[[pa.Table], np.ndarray]
_COLUMNS = ["kind", "timestamp", "user", "user_number", "received"]
#: Note of a row of the kind SKIPPED: users were removed from the rows before it. Logs contain this value.
_REMOVAL = "users were removed"
#: Suffix of files with the bytes of a damaged or unfinished record.
DAMAGED = ".damaged"


def list_segments(folder: str) -> list[str]:
    """Return the files of the log in `folder`, one for each first row, in order; the Parquet file if there are both.

    Raises `UserError` if the first file is missing.
    """
    files: dict[int, str] = {}
    for suffix in (SUFFIX, PARQUET):
        files |= {first_row(file): file for file in storage.list_files(storage.join(folder, SEGMENTS), suffix)}
    if files and 0 not in files:
        first = min(files)
        raise UserError(f"{files[first]}: begins at row {first}; expected 0: a file is missing")
    return [files[first] for first in sorted(files)]


def first_row(file: str | Path) -> int:
    """Return the number of the first row of a file. Raises `UserError` for a name that is not a number."""
    stem = posixpath.basename(str(file)).partition(".")[0]
    if not stem.isdigit():
        raise UserError(f"{file}: found in the folder of the log's files; expected a number as its name")
    return int(stem)


def parquet_of(file: str) -> str:
    """Return the name of the Parquet file that replaces a file, which may be Parquet itself."""
    return str(file).removesuffix(SUFFIX).removesuffix(PARQUET) + PARQUET


def read_tables(
    files: Sequence[str], columns: pa.Schema, since: int = 0, end: int | None = None, names: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of `files`, which follow each other, from number `since` up to `end` (None: all whole rows).

    Each table has at most `_ROWS` rows, and only the columns `names` (None: all). Raises `UserError` if rows are
    missing or damaged.
    """
    ends = [*map(first_row, files[1:]), end][: len(files)]
    for file, stop in zip(files, ends, strict=True):
        if stop is not None and stop <= since:
            continue
        at = first_row(file)
        for table in _tables(file, columns, names, at, stop):
            low, high = max(0, since - at), len(table) if stop is None else min(len(table), stop - at)
            for first in range(low, high, _ROWS):
                yield table.slice(first, min(_ROWS, high - first))
            at += len(table)


def _tables(file: str, columns: pa.Schema, names: list[str] | None, at: int, stop: int | None) -> Iterator[pa.Table]:
    """Yield the tables of a file, whose first row is `at`, up to the row `stop` or later."""
    if file.endswith(SUFFIX):
        try:
            content = content_of(file)
        except FileNotFoundError:  # it has become Parquet meanwhile
            file = parquet_of(file)
        else:
            table = pa.Table.from_batches(_of_stream(file, content, columns, at, stop), columns)
            yield (table if names is None else table.select(names)).combine_chunks()
            return
    parquet = open_sealed(file)
    if not parquet.schema_arrow.equals(columns):
        raise UserError(f"{file}: found other columns than the log's; expected {', '.join(columns.names)}")
    rows = parquet.metadata.num_rows
    if stop is not None and at + rows < stop:
        raise UserError(f"{file}: rows are missing: found rows up to {at + rows}; expected rows up to {stop}")
    for batch in parquet.iter_batches(_ROWS, columns=names, use_threads=False):
        yield pa.Table.from_batches([batch])


def _of_stream(
    file: str, content: pa.Buffer, columns: pa.Schema, at: int, stop: int | None
) -> Iterator[pa.RecordBatch]:
    end = header_end(content, columns)
    for batch, following in read_batches(content, columns):
        if stop is not None and at >= stop:
            return
        found = batch.column(0)[0].as_py()
        if found != at:
            raise UserError(f"{file}: byte {end}: found row {found}; expected row {at}")
        at, end = at + batch.num_rows, following
        yield batch
    if stop is None:  # a running server may be writing the last record
        check_rest(content, end, file)
    elif at < stop:
        what = "rows are missing" if content.slice(end).to_pybytes() in (b"", END) else f"damaged at byte {end}"
        raise UserError(f"{file}: {what}: found rows up to {at}; expected rows up to {stop}")


def content_of(file: str) -> pa.Buffer:
    """Return all bytes of a file.

    The file is read and not mapped: if a mapped file shrinks or the disk fails, a signal ends the process. Raises
    `FileNotFoundError`, and `UserError` if it cannot be read.
    """
    system, path = storage.filesystem(file)
    try:
        with system.open_input_stream(path) as stream:
            return pa.py_buffer(stream.read())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error


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
                rows = read_tables([file], columns, end=first_row(following))
                write_segment(file, pa.concat_tables([columns.empty_table(), *rows]), partial)
                made += 1
            old.unlink()
    return made


def write_segment(file: str, rows: pa.Table, partial: str) -> None:
    """Write the Parquet file that replaces `file`, by way of `partial`. Raises `UserError` if its rows differ."""
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


def of_users(users: Sequence[str]) -> Chosen:
    """Choose all rows of these users. An id in `users` is a text, also for logs with whole numbers."""
    texts, numbers = ids_from_text(users, pa.string()), ids_from_text(users, pa.int64())

    def chosen(rows: pa.Table) -> np.ndarray:
        return pc.or_(pc.is_in(rows["user"], texts), pc.is_in(rows["user_number"], numbers)).to_numpy()

    return chosen


def removal() -> Event:
    """Return the row to append before users are removed, so that no earlier snapshot of the state is used again."""
    return Event(Kind.SKIPPED, timestamp=0, note=_REMOVAL)


def any_removal(folder: str, since: int) -> bool:
    """Return True if users were removed after row `since` of the log in `folder` was written."""
    files, columns = list_segments(folder), read_about(folder).columns
    tables = read_tables(files, columns, since, names=["note"])
    return any(pc.any(pc.equal(table["note"], _REMOVAL)).as_py() for table in tables)


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
    paths = [Path(storage.absolute(file)) for file in storage.list_files(storage.join(folder, SEGMENTS), DAMAGED)]
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
    empty = {"kind": int(Kind.SKIPPED), "timestamp": 0, "event_id": ""}  # other columns are null
    others = [field for field in rows.schema if field.name != "number"]
    columns = [pc.if_else(mask, pa.scalar(empty.get(field.name), field.type), rows[field.name]) for field in others]
    return pa.table([rows["number"], *columns], schema=rows.schema)
