"""Writer of the event log: rows are on the disk before a client gets its reply."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import version_1
from prefrec_ray.logs.events.format import SEGMENTS, SUFFIX, Event, Kind, batch_of, schema
from prefrec_ray.logs.events.index import FileIndex
from prefrec_ray.logs.events.records import END, BatchEncoder, check_rest, read_batch
from prefrec_ray.logs.events.repair import end_file, keep_rest, lost_rows, write_whole
from prefrec_ray.logs.events.segments import content_of, first_row, list_segments, parquet_of, read_tables
from prefrec_ray.storage.parquet import open_sealed

#: Size in bytes at which a file is closed and the next one begins.
SEGMENT_BYTES = 64 << 20


class EventLog:
    """The log in the folder `folder`, on a local disk. One writer per folder: the caller holds a claim on it.

    `commit` writes a batch and waits until it is on the disk. A write that fails leaves nothing of the batch behind,
    and the next one may succeed. After a failed `fsync` the contents of the disk are unknown, and all further commits
    fail. Raises `UserError` if the folder cannot be made, if files are missing at the beginning or the end, and if the
    last file is damaged in front of whole records. Other files are checked when they are read.
    """

    def __init__(self, folder: str, item_type: pa.DataType) -> None:
        self.schema = schema(item_type)
        self._encode = BatchEncoder(self.schema)
        self._folder = Path(storage.absolute(folder)) / SEGMENTS
        storage.make_folder(str(self._folder))
        storage.sync(str(self._folder.parent))  # otherwise a power cut may remove the folder with all rows in it
        self._paths = [Path(file) for file in list_segments(str(self._folder.parent))]
        self._indices: dict[Path, FileIndex] = {}
        self._broken: OSError | None = None
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

    def __len__(self) -> int:
        return self.next

    @property
    def broken(self) -> bool:
        """Return True if no rows can be written until the next start reads the disk."""
        return self._broken is not None

    @property
    def size(self) -> int:
        """Return the size of all files."""
        return sum(Path(file).stat().st_size for file in list_segments(str(self._folder.parent)))

    def _recover(self, path: Path) -> None:
        """Find the end of the last file, `path`, and continue there."""
        if _first(self._paths[0]) != 0:
            raise UserError(f"{self._paths[0]}: begins at row {_first(self._paths[0])}; expected 0: a file is missing")
        if path.suffix != SUFFIX:  # a file becomes Parquet only if another one follows it
            raise UserError(f"{path}: found no file after it; expected the next file: rows are missing")
        content = content_of(str(path))
        self._indices[path] = index = FileIndex.from_content(content, self.schema)
        self.next = _first(path) + index.rows
        rest = content.slice(index.end).to_pybytes()
        if rest == END and index.end:
            raise UserError(
                f"{path}: ends at row {self.next}, with no file after it; expected a file that begins at row"
                f" {self.next}: rows are missing"
            )
        if rest:
            check_rest(content, index.end, self.schema, str(path))
            self._repair(path, rest, index)
        elif version_1.begins(content, self.schema):
            self.notes.append(f"{path}: has an earlier version; new rows go to a file of this version")
            if index.rows == 0:  # the new file has the same name
                os.truncate(path, 0)
                index.end = 0
        else:
            self._open(path)

    def _repair(self, path: Path, rest: bytes, index: FileIndex) -> None:
        """Keep `rest`, the bytes after the last whole record of the last file, and continue in a new file.

        Clients may have the numbers of lost rows. So these numbers are not used again.
        """
        side, skipped = keep_rest(path, rest, index.end), lost_rows(rest)
        new = self._folder / f"{self.next:015d}{SUFFIX}"
        rows = [Event(Kind.SKIPPED, timestamp=0)] * skipped
        record = self._encode(batch_of(rows, self.next, self.schema))
        write_whole(new, self._encode.header + record)
        if new != path:
            os.truncate(path, index.end)
            self._paths.append(new)
        self.notes.append(
            f"{path}: damaged or unfinished record at byte {index.end}, of {len(rest)} bytes: kept in {side.name}; rows"
            f" {self.next} to {self.next + skipped - 1} stay empty, so that no event id is used twice"
        )
        self._indices[new] = added = FileIndex()
        added.add(skipped, len(self._encode.header), len(self._encode.header) + len(record))
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
                end_file(before[-1])
        except OSError:
            os.close(file)
            raise
        self._file, self._size = file, os.fstat(file).st_size
        if path not in self._paths:
            self._paths.append(path)
        self._indices.setdefault(path, FileIndex())
        for old, following in pairwise(self._paths):
            if _first(following) <= self.needed:
                self._indices.pop(old, None)

    def commit(self, events: Sequence[Event]) -> int:
        """Append `events`, which are on the disk when it returns. Return the number of the first event.

        Raises `OSError` if they cannot be written (a full disk); the log then contains none of them.
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
        """Return the row `number`, from the disk.

        Raises `IndexError` if no row has this number, `UserError` if the row is damaged.
        """
        if not 0 <= number < self.next:
            raise IndexError(number)
        path = self._paths[bisect_right(self._paths, number, key=_first) - 1]
        row = number - _first(path)
        if path.suffix != SUFFIX:
            return _row_of_parquet(str(path), row)
        try:
            if path not in self._indices:
                self._indices[path] = FileIndex.from_content(content_of(str(path)), self.schema)
            begin, end, before = self._indices[path].place(row)
            with path.open("rb") as file:
                message = pa.py_buffer(os.pread(file.fileno(), end - begin, begin))
            batch = read_batch(message, self.schema)
        except FileNotFoundError:  # it became a Parquet file in the meantime
            return _row_of_parquet(parquet_of(str(path)), row)
        except IndexError:
            end = self._indices[path].end
            raise UserError(f"{path}: damaged at byte {end}: row {number} is missing; expected to find it") from None
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged at byte {begin} ({error}); expected row {number}") from error
        return batch.slice(row - before, 1).to_pylist()[0]

    def tables(self, since: int = 0, rows: int = 1 << 16) -> Iterator[pa.Table]:
        """Yield the rows from number `since` on, in tables of about `rows` rows.

        Raises `UserError` if rows are missing or damaged.
        """
        end = self.next  # read first: another thread may begin a file that the list below lacks
        files = [str(path) for path in self._paths]
        yield from read_tables(files, self.schema, since, end, rows=rows)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _first(path: Path) -> int:
    return first_row(str(path))


def _row_of_parquet(file: str, row: int) -> dict[str, Any]:
    parquet = open_sealed(file)
    try:
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            if row < size:
                return parquet.read_row_group(group).slice(row, 1).to_pylist()[0]
            row -= size
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: damaged ({str(error).splitlines()[0]})") from error
    raise UserError(f"{file}: rows are missing: found {parquet.metadata.num_rows}; expected more")
