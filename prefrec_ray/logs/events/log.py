"""Writer of the event log: rows are on the disk before a client gets its reply."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import (
    END,
    SEGMENTS,
    SUFFIX,
    Event,
    FileIndex,
    Kind,
    batch_of,
    check_rest,
    encode,
    header,
    read_batch,
    schema,
)
from prefrec_ray.logs.events.segments import content_of, first_row, list_segments, read_tables

#: Size in bytes at which a file is closed and the next one begins.
SEGMENT_BYTES = 64 << 20
#: Rows that a record of 0 bytes may have had, and a lower bound of the bytes of a row in Arrow's format.
_LOST_ROWS, _ROW_BYTES = 1024, 64


class EventLog:
    """The log in the folder `folder`, on a local disk. One writer per folder: the caller holds a claim on it.

    `commit` writes a batch and waits until it is on the disk. A write that fails leaves nothing of the batch behind,
    and the next one may succeed. After a failed `fsync` the contents of the disk are unknown, and all further commits
    fail. Raises `UserError` if the folder cannot be made, if files are missing at the beginning or the end, and if the
    last file is damaged in front of whole records. Other files are checked when they are read.
    """

    def __init__(self, folder: str, item_type: pa.DataType) -> None:
        self.schema = schema(item_type)
        self._header = header(self.schema)
        self._folder = Path(storage.absolute(folder)) / SEGMENTS
        storage.make_folder(str(self._folder))
        storage.sync(str(self._folder.parent))  # otherwise a power cut may remove the folder with all rows in it
        self._paths = [Path(file) for file in list_segments(str(self._folder.parent))]
        self._indices: dict[Path, FileIndex] = {}
        #: The error after which no rows can be written until the next start reads the disk.
        self.broken: OSError | None = None
        self._refused = 0  # bytes of the record that is not on the disk
        self._unread: int | None = None  # a row that could not be read
        self._file: int | None = None
        self._size = 0
        #: The number of the next row.
        self.next = 0
        #: Rows before this number may be slow to find. An index takes a tenth of the space of its rows on disk.
        self.needed = 0
        #: One line for each repair or unusual finding at the start.
        self.notes: list[str] = []
        if self._paths:
            self._recover(self._paths[-1])
        else:
            self._open(self._folder / f"{0:015d}{SUFFIX}")

    def _recover(self, path: Path) -> None:
        """Find the end of the last file, `path`, and continue there."""
        if path.suffix != SUFFIX:  # a file becomes Parquet only if another one follows it
            raise UserError(f"{path}: found no file after it; expected the next file: rows are missing")
        content = content_of(str(path))
        self._indices[path] = index = FileIndex.from_content(content, self.schema)
        self.next = first_row(path) + index.rows
        rest = content.slice(index.end).to_pybytes()
        if rest == END and index.end:
            raise UserError(
                f"{path}: ends at row {self.next}, with no file after it; expected a file that begins at row"
                f" {self.next}: rows are missing"
            )
        if rest:
            check_rest(content, index.end, str(path))
            self._repair(path, rest, index)
        else:
            self._open(path)

    def _repair(self, path: Path, rest: bytes, index: FileIndex) -> None:
        """Keep `rest`, the bytes after the last whole record of the last file, and continue in a new file.

        Clients may have the numbers of lost rows. So these numbers are not used again.
        """
        side = path.with_name(f"{path.name}.{index.end}-{zlib.crc32(rest):08x}.damaged")
        _write_whole(side, rest)
        skipped = max(_LOST_ROWS, len(rest) // _ROW_BYTES)
        new = self._folder / f"{self.next:015d}{SUFFIX}"
        rows = [Event(Kind.SKIPPED, timestamp=0)] * skipped
        content = self._header + encode(batch_of(rows, self.next, self.schema))
        _write_whole(new, content)
        if new != path:
            os.truncate(path, index.end)
            self._paths.append(new)
        self.notes.append(
            f"{path}: damaged or unfinished record at byte {index.end}, of {len(rest)} bytes: kept in {side.name}; rows"
            f" {self.next} to {self.next + skipped - 1} stay empty, so that no event id is used twice"
        )
        self._indices[new] = FileIndex(len(self._header))
        self._indices[new].add(skipped, len(content))
        self.next += skipped
        self._open(new)

    def _open(self, path: Path) -> None:
        """Open the file `path`, to append at its end."""
        self.close()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            storage.sync(str(self._folder))
            before = [old for old in self._paths if old != path]
            if before and before[-1].suffix == SUFFIX:
                _end_file(before[-1])
        except OSError:
            os.close(file)
            raise
        self._file, self._size = file, os.fstat(file).st_size
        if path not in self._paths:
            self._paths.append(path)
        for old, following in pairwise(self._paths):
            if first_row(following) <= self.needed:
                self._indices.pop(old, None)

    def begin_file(self) -> None:
        """Begin the next file, unless the last one is empty: all rows are then in files that do not change any more."""
        if self._size:
            self._open(self._folder / f"{self.next:015d}{SUFFIX}")

    def commit(self, events: Sequence[Event]) -> int:
        """Append `events`, which are on the disk when it returns. Return the number of the first event.

        Raises `OSError` if they cannot be written (a full disk); the log then contains none of them.
        """
        if self.broken is not None:
            raise OSError(self.broken.errno, f"the event log failed before ({self.broken}); start again")
        data = encode(batch_of(events, self.next, self.schema))
        self._refused = len(data)
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._open(self._folder / f"{self.next:015d}{SUFFIX}")
        first, path = self.next, self._paths[-1]
        if not self._size:
            self._indices[path] = FileIndex(len(self._header))
            data = self._header + data
        self._write(data)
        self._indices[path].add(len(events), self._size)
        self.next += len(events)
        self._refused = 0
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
                self.broken = error
            raise
        self._size += len(data)
        try:
            os.fsync(self._file)
        except OSError as error:
            self.broken = error
            raise

    def check(self) -> None:
        """Raise an error if rows cannot be written or read.

        Raises `OSError` if the disk has no room for the last refused record, and `UserError` if the last row, or a row
        that could not be read before, cannot be read.
        """
        if self.broken is not None:
            raise self.broken
        if self._refused:
            attempt = self._folder.parent / "attempt"
            storage.write_bytes(str(attempt), os.urandom(self._refused))
            attempt.unlink()
            self._refused = 0
        if self._size:
            self.read(self.next - 1)
        if self._unread is not None:
            self.read(self._unread)
            self._unread = None

    def read(self, number: int) -> dict[str, Any]:
        """Return the row `number` from the disk. Raises `IndexError` if there is none, `UserError` for damage."""
        if not 0 <= number < self.next:
            raise IndexError(number)
        try:
            return self._read(number)
        except UserError:
            self._unread = number
            raise

    def _read(self, number: int) -> dict[str, Any]:
        path = self._paths[bisect_right(self._paths, number, key=first_row) - 1]
        if path.suffix == SUFFIX:
            with suppress(FileNotFoundError):  # it may become a Parquet file in the meantime
                return self._read_stream(path, number - first_row(path))
        return next(read_tables([str(path)], self.schema, number, number + 1)).to_pylist()[0]

    def _read_stream(self, path: Path, row: int) -> dict[str, Any]:
        if path not in self._indices:
            self._indices[path] = FileIndex.from_content(content_of(str(path)), self.schema)
        index = self._indices[path]
        where = f"{path}: damaged at byte"
        try:
            begin, end, first = index.find(row)
        except IndexError:
            missing = f"row {first_row(path) + row} is missing; expected to find it"
            raise UserError(f"{where} {index.end}: {missing}") from None
        with path.open("rb") as file:
            try:
                message = pa.py_buffer(os.pread(file.fileno(), end - begin, begin))
                batch = read_batch(message, self.schema)
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{where} {begin} ({error}); expected row {first_row(path) + row}") from error
        return batch.slice(row - first, 1).to_pylist()[0]

    def tables(self, since: int = 0) -> Iterator[pa.Table]:
        """Yield the rows from number `since` on, as `read_tables` does."""
        end = self.next  # read first: another thread may begin a file that the list below lacks
        files = [str(path) for path in self._paths]
        yield from read_tables(files, self.schema, since, end)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _write_whole(path: Path, content: bytes) -> None:
    """Write the file `path`, readable only by its owner, whole or not at all; it is on the disk when this returns."""
    with storage.private():
        storage.write_bytes(str(path), content)
    storage.sync(str(path.parent))


def _end_file(path: Path) -> None:
    """Mark the end of the file `path`, which has a successor. If the successor is missing, the log lacks rows."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:  # it has become Parquet meanwhile
        return
    try:
        size = os.fstat(handle).st_size
        if size < len(END) or os.pread(handle, len(END), size - len(END)) != END:
            os.write(handle, END)
            os.fsync(handle)
    finally:
        os.close(handle)
