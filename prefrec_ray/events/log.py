"""The writer of the event log: rows are on the disk before anybody is told that they are."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.events.format import SEGMENTS, SUFFIX, Encoder, Event, Piece, batch_of, pieces, schema, whole_bytes

#: Bytes from which on a new file is begun.
SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class _Segment:
    """A file of the log, and the number of its first row, which its name says."""

    path: Path

    @property
    def first(self) -> int:
        return int(self.path.stem)


class EventLog:
    """The log in the folder `folder`, on a local disk. One writer a folder: the caller holds a claim on it.

    `commit` writes a batch and waits until it is on the disk. A write that fails leaves nothing of the batch behind,
    and the next one may succeed; after a failed wait for the disk nobody knows what it holds, and all further commits
    fail.
    """

    def __init__(self, folder: str, item_type: pa.DataType) -> None:
        self.schema = schema(item_type)
        self._folder = Path(storage.absolute(folder)) / SEGMENTS
        self._folder.mkdir(parents=True, exist_ok=True)
        self._firsts: list[int] = []  # of every batch: its first row ...
        self._places: list[tuple[Path, int, int]] = []  # ... and its file and bytes
        self._broken: OSError | None = None
        self._file: int | None = None
        self._size = 0
        #: The number of the next row.
        self.next = 0
        #: What was cut off at the end when the log was opened, in words.
        self.repaired: str | None = None
        self._recover()

    def __len__(self) -> int:
        return self.next

    @property
    def size(self) -> int:
        """The size of all files."""
        return sum(segment.path.stat().st_size for segment in self._segments())

    def _segments(self) -> list[_Segment]:
        return sorted((_Segment(path) for path in self._folder.glob(f"*{SUFFIX}")), key=lambda segment: segment.first)

    def _recover(self) -> None:
        """Finds every batch; cuts off what an interrupted write left at the end of the last file."""
        segments = self._segments()
        for number, segment in enumerate(segments):
            size = segment.path.stat().st_size
            content = _read(segment.path)
            whole = whole_bytes(content, self.schema, str(segment.path))
            if whole < size or whole == 0:
                if number + 1 < len(segments):
                    raise UserError(
                        f"{segment.path}: ends at byte {whole} of {size}; expected a whole file before others"
                    )
                self.repaired = (
                    f"{segment.path}: cut off an unfinished record ({size - whole} bytes), never acknowledged"
                )
                os.truncate(segment.path, whole)
            if segment.first != self.next:
                raise UserError(
                    f"{segment.path}: begins at row {segment.first}; expected {self.next}: a file is missing"
                )
            for piece in pieces(content.slice(0, whole), self.schema) if whole else ():
                self._add(piece, segment.path)
        if segments:
            self._open(segments[-1].path)

    def _add(self, piece: Piece, path: Path) -> None:
        self._firsts.append(self.next)
        self._places.append((path, piece.begin, piece.end))
        self.next += piece.batch.num_rows

    def _open(self, path: Path) -> None:
        """Goes on writing at the end of the file `path`, which is begun where it is empty."""
        if self._file is not None:
            os.close(self._file)
        self._path, self._encode = path, Encoder(self.schema)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size == 0:
            self._write(self._encode.header)
            self._flush()
            _sync_folder(self._folder)

    def commit(self, events: Sequence[Event]) -> int:
        """Appends `events`; they are on the disk when it returns. The number of the first of them.

        Raises `OSError` where they cannot be written (a full disk); none of them is in the log then.
        """
        if self._broken is not None:
            raise OSError(self._broken.errno, f"the event log failed before ({self._broken}); start again")
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._open(self._folder / f"{self.next:015d}{SUFFIX}")
        first = self.next
        batch = batch_of(events, first, self.schema)
        begin = self._size
        self._write(self._encode(batch))
        self._flush()
        self._add(Piece(batch, begin, self._size), self._path)
        return first

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        rest, before = memoryview(data), self._size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            try:
                os.ftruncate(self._file, before)
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
        place = bisect_right(self._firsts, number) - 1
        path, begin, end = self._places[place]
        with path.open("rb") as file:
            message = pa.ipc.read_message(pa.py_buffer(os.pread(file.fileno(), end - begin, begin)))
        batch = pa.ipc.read_record_batch(message, self.schema)
        return batch.slice(number - self._firsts[place], 1).to_pylist()[0]

    def tables(self, since: int = 0, rows: int = 1 << 16) -> Iterator[pa.Table]:
        """The rows from number `since` on, in tables of some `rows`."""
        held: list[pa.RecordBatch] = []
        segments = self._segments()
        for segment, end in zip(segments, [*(after.first for after in segments[1:]), self.next], strict=False):
            if end <= since:
                continue
            for piece in pieces(_read(segment.path), self.schema):
                first = piece.batch["number"][0].as_py()
                if first >= self.next:
                    break
                if first + piece.batch.num_rows <= since:
                    continue
                held.append(piece.batch.slice(max(0, since - first)))
                if sum(batch.num_rows for batch in held) >= rows:
                    yield pa.Table.from_batches(held)
                    held = []
        if held:
            yield pa.Table.from_batches(held)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read(path: Path) -> pa.Buffer:
    if path.stat().st_size == 0:
        return pa.py_buffer(b"")
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()


def _sync_folder(folder: Path) -> None:
    """New names in a folder are on the disk when it returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
