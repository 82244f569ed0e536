"""The rows of the event log, and its files: Arrow IPC streams of record batches, each with a checksum.

Any Arrow reader opens a file. A batch is one group commit; its custom metadata `crc32` is that of the message's body.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import pyarrow as pa

from prefrec_ray.errors import UserError

#: Of the log's folder: the folder of its files, and the items that its rows are about.
SEGMENTS, ITEMS = "events", "items.parquet"
SUFFIX = ".arrow"
#: Recommendations of a group commit at most: those of shadows are in the commit of what was shown.
COMMIT = 32
_CONTINUATION = b"\xff\xff\xff\xff"
_ALIGNMENT = 8


class Kind(IntEnum):
    """What a row says. Logs depend on these values: they never change."""

    RECOMMENDED = 1  # items, drawn with these propensities, were given to a user
    FEEDBACK = 2  # what a user did with one item: a request of the data set
    SHADOWED = 3  # what a shadow policy would have given
    ITEM = 4  # an item that may be shown from now on
    WITHDRAWN = 5  # an item that may be shown no more
    ARMS = 6  # the arms from now on: JSON in `note`


@dataclass(frozen=True)
class Event:
    """A row, without its number. Times are in ms, UTC.

    `timestamp` is when it counts: never before an earlier row of FEEDBACK of the same user. `given` is the time that
    the client said. Ids of users are whole numbers (`user_number`) or text (`user`). `propensities` are those of
    `items`, NaN where unknown. `known`: whether there was an embedding of the item of a FEEDBACK: others are no
    requests.
    """

    kind: Kind
    timestamp: int
    event_id: str = ""
    user: str | None = None
    user_number: int | None = None
    given: int | None = None
    received: int | None = None
    policy: str | None = None
    arm: str | None = None
    items: Sequence[Any] | None = None
    propensities: Sequence[float] | None = None
    feedback: Sequence[float] | None = None
    dwell_ms: float | None = None
    position: int | None = None
    known: bool | None = None
    embedding: Sequence[float] | None = None
    note: str | None = None


def schema(item_type: pa.DataType) -> pa.Schema:
    """The columns of the log: `number`, which ascends by one a row over all files, then those of `Event`."""
    types = {
        "kind": pa.int8(),
        "timestamp": pa.int64(),
        "event_id": pa.string(),
        "user": pa.string(),
        "user_number": pa.int64(),
        "given": pa.int64(),
        "received": pa.int64(),
        "policy": pa.string(),
        "arm": pa.string(),
        "items": pa.list_(item_type),
        "propensities": pa.list_(pa.float64()),
        "feedback": pa.list_(pa.float32()),
        "dwell_ms": pa.float64(),
        "position": pa.int8(),
        "known": pa.bool_(),
        "embedding": pa.list_(pa.float32()),
        "note": pa.string(),
    }
    return pa.schema([("number", pa.int64()), *types.items()])


_NAMES = tuple(field.name for field in fields(Event))


def batch_of(events: Sequence[Event], first: int, columns: pa.Schema) -> pa.RecordBatch:
    """The rows `events`, numbered from `first`."""
    arrays = [pa.array(range(first, first + len(events)), pa.int64())]
    for name in _NAMES:
        arrays.append(pa.array([getattr(event, name) for event in events], columns.field(name).type))
    return pa.record_batch(arrays, schema=columns)


class Encoder:
    """Batches as bytes of a file: `header` once, then each batch."""

    def __init__(self, columns: pa.Schema) -> None:
        self.header = columns.serialize().to_pybytes()
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), columns)
        self._started = False

    def __call__(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch, custom_metadata={"crc32": str(checksum(batch))})
        written = self._sink.take()
        if not self._started:
            self._started, written = True, written[len(self.header) :]
        return written


def checksum(batch: pa.RecordBatch) -> int:
    """The CRC-32 of the body of the batch's message."""
    return zlib.crc32(pa.ipc.read_message(batch.serialize()).body)


@dataclass(frozen=True)
class Piece:
    """A batch of a file: its rows, and the bytes that it takes, [begin, end)."""

    batch: pa.RecordBatch
    begin: int
    end: int


def pieces(content: pa.Buffer, columns: pa.Schema | None = None) -> Iterator[Piece]:
    """The batches of a file, up to its end or to the first that is not whole.

    With `columns` the file has to be of these: another is not read at all.
    """
    stream = pa.BufferReader(content)
    try:
        reader = pa.ipc.open_stream(stream)
        if columns is not None and not reader.schema.equals(columns):
            return
        begin = stream.tell()
        while True:
            batch, note = reader.read_next_batch_with_custom_metadata()
            end = stream.tell()
            if note is None or note.get("crc32") != str(checksum(batch)).encode():
                return
            yield Piece(batch, begin, end)
            begin = end
    except (StopIteration, pa.ArrowInvalid, OSError):
        return


def whole_bytes(content: pa.Buffer, columns: pa.Schema, where: str) -> int:
    """The bytes of a file up to the end of its last whole batch; 0 where not even its header is whole.

    Raises `UserError`, which `where` opens, where a batch that is not whole has whole ones behind it: no interrupted
    write leaves that.
    """
    header = columns.serialize().to_pybytes()
    start = content.slice(0, min(len(header), content.size)).to_pybytes()
    if start != header:
        if header.startswith(start) or not _later(content, 0, header, columns):
            return 0
        raise _damaged(where, 0)
    end = max((piece.end for piece in pieces(content, columns)), default=len(header))
    if end < content.size and _later(content, end, header, columns):
        raise _damaged(where, end)
    return end


def _later(content: pa.Buffer, begin: int, header: bytes, columns: pa.Schema) -> bool:
    """Whether a whole batch begins behind `begin`."""
    rest = content.slice(begin).to_pybytes()
    at = rest.find(_CONTINUATION, 1)
    while at >= 0:
        if (begin + at) % _ALIGNMENT == 0:
            batches = pieces(pa.py_buffer(header + rest[at:]), columns)
            if next(batches, None) is not None:
                return True
        at = rest.find(_CONTINUATION, at + 1)
    return False


def _damaged(where: str, byte: int) -> UserError:
    return UserError(
        f"{where}: damaged at byte {byte}, with whole records behind it; expected a file as it was written"
    )


class _Sink(io.RawIOBase):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
