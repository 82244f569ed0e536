"""The writer of the event log: rows are on the disk before anybody is told that they are."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX, Encoder, Event, batch_of, pieces, schema, whole_bytes
from prefrec_ray.logs.events.segments import content_of, first_row, list_segments, parquet_of, read_tables, readable

#: Bytes from which on a new file is begun.
SEGMENT_BYTES = 64 << 20


class EventLog:
    """The log in the folder `folder`, on a local disk. One writer a folder: the caller holds a claim on it.

    `commit` writes a batch and waits until it is on the disk. A write that fails leaves nothing of the batch behind,
    and the next one may succeed; after a failed wait for the disk nobody knows what it holds, and all further commits
    fail. Raises `UserError` where there can be no folder of files, and where the last file is damaged, not just at its
    end; others are checked when they are read.
    """

    def __init__(self, folder: str, item_type: pa.DataType) -> None:
        self.schema = schema(item_type)
        self._encode = Encoder(self.schema)
        self._folder = Path(storage.absolute(folder)) / SEGMENTS
        storage.make_folder(str(self._folder))
        storage.sync(str(self._folder.parent))  # else a power cut may take the folder, and all that was waited for
        self._paths = [Path(file) for file in list_segments(str(self._folder.parent))]
        self._indices: dict[Path, _Index] = {}
        self._broken: OSError | None = None
        self._file: int | None = None
        self._size = 0
        #: The number of the next row.
        self.next = 0
        #: Rows before this one need not be found fast any more: that takes memory, a tenth of what they take on disk.
        self.needed = 0
        #: What was cut off at the end when the log was opened, in words.
        self.repaired: str | None = None
        if self._paths:
            self._recover()

    def __len__(self) -> int:
        return self.next

    @property
    def broken(self) -> bool:
        """Whether nothing is written any more: only a new start says what is on the disk."""
        return self._broken is not None

    @property
    def size(self) -> int:
        """The size of all files."""
        return sum(Path(file).stat().st_size for file in list_segments(str(self._folder.parent)))

    def _recover(self) -> None:
        """Cuts off what an interrupted write left at the end of the last file, and goes on there."""
        if _first(self._paths[0]) != 0:
            raise UserError(f"{self._paths[0]}: begins at row {_first(self._paths[0])}; expected 0: a file is missing")
        path = self._paths[-1]
        if path.suffix != SUFFIX:  # closed: the next row begins a file
            with readable(str(path)):
                self.next = _first(path) + pq.read_metadata(path).num_rows
            return
        content = content_of(str(path))
        whole = whole_bytes(content, self.schema, str(path))
        if whole < content.size:
            cut = f"{content.size - whole} bytes"
            self.repaired = f"{path}: cut off an unfinished record ({cut}), which was never acknowledged"
            os.truncate(path, whole)
        self._indices[path] = index = _Index.of(content.slice(0, whole), self.schema)
        self.next = _first(path) + index.rows
        self._open(path)

    def _open(self, path: Path) -> None:
        """Goes on writing at the end of the file `path`."""
        self.close()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            storage.sync(str(self._folder))
        except OSError:
            os.close(file)
            raise
        self._file, self._size = file, os.fstat(file).st_size
        if path not in self._paths:
            self._paths.append(path)
        self._indices.setdefault(path, _Index())
        for old, following in pairwise(self._paths):
            if _first(following) <= self.needed:
                self._indices.pop(old, None)

    def commit(self, events: Sequence[Event]) -> int:
        """Appends `events`; they are on the disk when it returns. The number of the first of them.

        Raises `OSError` where they cannot be written (a full disk); none of them is in the log then.
        """
        if self._broken is not None:
            raise OSError(self._broken.errno, f"the event log failed before ({self._broken}); start again")
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._open(self._folder / f"{self.next:015d}{SUFFIX}")
        first, begin = self.next, max(self._size, len(self._encode.header))
        data = self._encode(batch_of(events, first, self.schema))
        self._write(data if self._size else self._encode.header + data)
        self._flush()
        self._indices[self._paths[-1]].add(len(events), begin, self._size)
        self.next += len(events)
        return first

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
            except OSError as error:
                self._broken = error
            raise
        self._size += len(data)

    def _flush(self) -> None:
        assert self._file is not None
        try:
            os.fsync(self._file)
        except OSError as error:
            self._broken = error
            raise

    def read(self, number: int) -> dict[str, Any]:
        """The row `number`, from the disk. Raises `IndexError` where there is none."""
        if not 0 <= number < self.next:
            raise IndexError(number)
        path = self._paths[bisect_right(self._paths, number, key=_first) - 1]
        row = number - _first(path)
        if path.suffix != SUFFIX:
            return _row_of_parquet(str(path), row)
        try:
            if path not in self._indices:
                self._indices[path] = _Index.of(content_of(str(path)), self.schema)
            begin, end, before = self._indices[path].place(row)
            with path.open("rb") as file:
                message = pa.ipc.read_message(pa.py_buffer(os.pread(file.fileno(), end - begin, begin)))
        except FileNotFoundError:  # it has become Parquet meanwhile
            return _row_of_parquet(parquet_of(str(path)), row)
        batch = pa.ipc.read_record_batch(message, self.schema)
        return batch.slice(row - before, 1).to_pylist()[0]

    def tables(self, since: int = 0, rows: int = 1 << 16) -> Iterator[pa.Table]:
        """The rows from number `since` on, in tables of some `rows`. Raises `UserError` where some are missing."""
        end = self.next  # first: another thread may begin a file, with rows that the files below lack
        files = [str(path) for path in self._paths]
        yield from read_tables(files, self.schema, since, end, rows=rows)

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class _Index:
    """Where the batches of a file are: for each its first row in the file, and its bytes."""

    def __init__(self) -> None:
        self.rows = 0
        self._firsts, self._begins, self._ends = array("q"), array("q"), array("q")

    @classmethod
    def of(cls, content: pa.Buffer, columns: pa.Schema) -> _Index:
        """Of the whole batches of a file."""
        index = cls()
        for piece in pieces(content, columns) if content.size else ():
            index.add(piece.batch.num_rows, piece.begin, piece.end)
        return index

    def add(self, rows: int, begin: int, end: int) -> None:
        """One batch more."""
        for of, value in ((self._firsts, self.rows), (self._begins, begin), (self._ends, end)):
            of.append(value)
        self.rows += rows

    def place(self, row: int) -> tuple[int, int, int]:
        """The bytes of the batch that holds a row of the file, and how many rows come before the batch.

        Raises `IndexError` where none does.
        """
        if row >= self.rows:
            raise IndexError(row)
        number = bisect_right(self._firsts, row) - 1
        return self._begins[number], self._ends[number], self._firsts[number]


def _first(path: Path) -> int:
    return first_row(str(path))


def _row_of_parquet(file: str, row: int) -> dict[str, Any]:
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        if row < size:
            return parquet.read_row_group(group).slice(row, 1).to_pylist()[0]
        row -= size
    raise IndexError(row)
