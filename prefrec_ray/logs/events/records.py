"""Binary format of the event log: Arrow IPC streams of record batches, each message sealed (storage/seal.py).

Any Arrow reader can open a file. A batch is one group commit. A seal covers all bytes of its message, so that no
damaged byte reaches Arrow. Files of version 1, whose checksums cover less, are read by version_1.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import version_1
from prefrec_ray.storage import seal

#: End mark of a file with a successor.
END = b"\xff\xff\xff\xff\0\0\0\0"
_CONTINUATION, _ALIGNMENT = b"\xff\xff\xff\xff", 8
_MOST_METADATA = 1 << 16
_NOTE = {"prefrec": seal.BLANK}


class BatchEncoder:
    """Encoder of batches: `header` once, then each batch."""

    def __init__(self, columns: pa.Schema) -> None:
        noted = columns.with_metadata(_NOTE)
        self._unsealed = len(noted.serialize())
        self.header = seal.fill(noted.serialize().to_pybytes())
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), noted)
        self._started = False

    def __call__(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch, custom_metadata=_NOTE)
        written = self._sink.take()
        if not self._started:
            self._started, written = True, written[self._unsealed :]
        return seal.fill(written)


@dataclass(frozen=True)
class Piece:
    """A batch of a file: its rows, and its range of bytes, [begin, end)."""

    batch: pa.RecordBatch
    begin: int
    end: int


def read_pieces(content: pa.Buffer, columns: pa.Schema) -> Iterator[Piece]:
    """Yield the batches of a file, up to its end or to the first damaged or unfinished batch."""
    if version_1.begins(content, columns):
        end = len(version_1.header(columns))
        while found := version_1.read_batch(content, end, columns):
            begin, end = end, found[1]
            yield Piece(found[0], begin, end)
        return
    end = header_end(content, columns) or content.size
    while following := _message_end(content, end):
        yield Piece(read_batch(content.slice(end, following - end), columns), end, following)
        end = following


def read_batch(message: pa.Buffer, columns: pa.Schema) -> pa.RecordBatch:
    """Return the batch of a message that `read_pieces` found. Raises `pa.ArrowInvalid` if it was damaged later."""
    if _message_end(message, 0) == message.size:
        return pa.ipc.read_record_batch(pa.ipc.read_message(message), columns)
    found = version_1.read_batch(message, 0, columns)
    if found is None or found[1] != message.size:
        raise pa.ArrowInvalid("its checksum differs")
    return found[0]


def header_end(content: pa.Buffer, columns: pa.Schema) -> int:
    """Return the end of the header of a file, 0 if it is damaged, unfinished or has other columns."""
    if version_1.begins(content, columns):
        return len(version_1.header(columns))
    end = _message_end(content, 0) or 0
    return end if end and pa.ipc.read_schema(content.slice(0, end)).equals(columns) else 0


def check_rest(content: pa.Buffer, end: int, columns: pa.Schema, where: str) -> None:
    """Check that no whole record follows the record that begins at `end`, since an interrupted write leaves none there.

    Raises `UserError`, which begins with `where`.
    """
    view, at = memoryview(content)[end:].tobytes(), 0
    while (at := view.find(_CONTINUATION, at + 1)) >= 0:
        place = end + at
        if place % _ALIGNMENT == 0 and (_message_end(content, place) or version_1.read_batch(content, place, columns)):
            raise UserError(
                f"{where}: damaged at byte {end}: found whole records after it; expected the file as it was written"
                " (put it back from a copy)"
            )


def _message_end(content: pa.Buffer, begin: int) -> int | None:
    """Return the end of the sealed message that begins at byte `begin`, None if its seal does not match."""
    view = memoryview(content).cast("B")[begin:]
    size = int.from_bytes(view[4:8], "little")
    if view[:4] != _CONTINUATION or not 0 < size <= _MOST_METADATA:
        return None
    place = seal.find(view[: 8 + size].tobytes())
    if place is None:
        return None
    length = seal.sealed_length(view[place : place + 16].tobytes())
    if length is None or not 8 + size <= length <= len(view) or not seal.matches(view[:length], place):
        return None
    return begin + length


class _Sink(io.RawIOBase):
    """Stream that collects the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
