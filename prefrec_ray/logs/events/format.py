"""Format of the event log: rows, their kinds and columns, the description in log.json, and the bytes of a file.

A file is an Arrow IPC stream, which any Arrow reader can open. A batch is one group commit. A seal
(storage/checksums.py) covers all bytes of a message, so that no damaged byte reaches Arrow.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage import checksums

#: Names in the log's folder: its description, the folder of its files, and the file of its items.
FILE, SEGMENTS, ITEMS = "log.json", "events", "items.parquet"
SUFFIX = ".arrow"
SCHEMA_VERSION = 2
#: HTTP requests, and rows of recommendations and feedback, from which a group commit takes no further request.
COMMIT, COMMIT_ROWS = 32, 256
#: Most ms by which two clocks may differ. An event may be this much ahead of the clock of the server.
CLOCKS_MS = 600_000
#: End mark of a file with a successor; it ends every stream of Arrow.
END = b"\xff\xff\xff\xff\0\0\0\0"
_CONTINUATION, _ALIGNMENT = b"\xff\xff\xff\xff", 8
_MOST_METADATA = 1 << 16
_NOTE = {"prefrec": checksums.BLANK}


class Kind(IntEnum):
    """Kind of a row. Logs contain these values, so they never change."""

    RECOMMENDED = 1  # items recommended to a user, and the propensities of the draws
    FEEDBACK = 2  # feedback of a user on one item: an impression of the data set
    ITEM = 4  # an item that was added
    WITHDRAWN = 5  # an item that was withdrawn
    ARMS = 6  # the arms from now on: JSON in `note`
    SKIPPED = 7  # no event: a row with this number was removed or may have been lost; the number is not used again


@dataclass(frozen=True)
class Event:
    """A row, without its number. Times are in ms, UTC.

    `timestamp` is the time that counts; it is never before an earlier FEEDBACK of the same user, unless that had a
    time more than `CLOCKS_MS` after the server's clock. `given` is the time that the client sent. A user id is a whole
    number (`user_number`) or text (`user`). `propensities` belong to `items`, NaN if unknown. `known` is True if the
    item of a FEEDBACK had an embedding; only then the row is an impression.
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
    """Return the columns of the log: `number`, which counts rows over all files, then the fields of `Event`."""
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


def batch_of(events: Sequence[Event], first: int, columns: pa.Schema) -> pa.RecordBatch:
    """Return the rows `events`, numbered from `first`."""
    arrays = [pa.array(range(first, first + len(events)), pa.int64())]
    for name in columns.names[1:]:
        arrays.append(pa.array([getattr(event, name) for event in events], columns.field(name).type))
    return pa.record_batch(arrays, schema=columns)


class About(Settings):
    """Ids, feedback in the order of the rows' lists, its kinds, the categories of user features, session timeout."""

    log_id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    item_ids: Literal["int64", "string"]
    feedback: tuple[str, ...]
    feedback_kinds: dict[str, str]
    user_features: dict[str, tuple[str, ...]]
    session_gap_ms: Annotated[int, Field(ge=1)]

    @property
    def item_type(self) -> pa.DataType:
        """Return the type of the ids of items."""
        return pa.int64() if self.item_ids == "int64" else pa.string()

    @property
    def columns(self) -> pa.Schema:
        """Return the columns of the rows."""
        return schema(self.item_type)

    def check_same(self, other: About, where: str) -> None:
        """Raise `UserError`, which begins with `where`, if `other` describes other events."""
        expected, found = (about.model_dump(mode="json", exclude={"log_id"}) for about in (self, other))
        for key in expected:
            if expected[key] != found[key]:
                raise UserError(f"{where}: {key}: found {found[key]}; expected {expected[key]}")


def read_about(folder: str) -> About:
    """Return the description of the log in `folder`. Raises `UserError` if absent, damaged or of another version."""
    file = storage.join(folder, FILE)
    if not storage.exists(file):
        raise UserError(
            f"{folder}: no folder of events ({FILE} is missing); expected the folder of `prefrec serve --state`"
        )
    value = storage.read_versioned(file, SCHEMA_VERSION)
    if "seal" not in value:
        raise UserError(f"{file}: damaged: found no checksum; expected the file as it was written")
    checksums.open_json(storage.read_text(file), file)
    del value["schema_version"], value["seal"]
    return parse(About, value, file)


def write_about(folder: str, about: About) -> None:
    """Write the description of the log in `folder`; it is on the disk when this returns."""
    value = about.model_dump(mode="json") | {"schema_version": SCHEMA_VERSION}
    storage.write_text(storage.join(folder, FILE), checksums.seal_json(value, indent=2, end="\n"))
    storage.sync(folder)


def header(columns: pa.Schema) -> bytes:
    """Return the header of a file."""
    return sealed(columns.with_metadata(_NOTE).serialize().to_pybytes())


def encode(batch: pa.RecordBatch) -> bytes:
    """Return a batch as a message of a file, read back and compared. Raises `OSError` if it differs."""
    columns = batch.schema.with_metadata(_NOTE)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns) as writer:
        writer.write_batch(batch, custom_metadata=_NOTE)
    stream = sink.getvalue().to_pybytes()
    message = sealed(stream[columns.serialize().size : -len(END)])
    if message_end(message, 0) != len(message) or not same(read_batch(pa.py_buffer(message), batch.schema), batch):
        raise OSError(errno.EIO, "a record of the event log cannot be read back")
    return message


def sealed(message: bytes) -> bytes:
    """Return the message with its seal in its metadata: texts of users are only in the body behind them."""
    return checksums.fill(message, head_end(message))


def head_end(message: bytes | memoryview) -> int:
    """Return the end of the metadata of a message."""
    return len(_CONTINUATION) + 4 + int.from_bytes(message[4:8], "little")


def same(a: pa.RecordBatch | pa.Table, b: pa.RecordBatch | pa.Table) -> bool:
    """Return True if rows are equal to the bit, including NaN and signs of zeros."""
    return a.schema.equals(b.schema) and all(map(_equal, a.columns, b.columns))


def _equal(a: pa.Array | pa.ChunkedArray, b: pa.Array | pa.ChunkedArray) -> bool:
    if isinstance(a, pa.ChunkedArray):
        a, b = a.combine_chunks(), b.combine_chunks()
    if pa.types.is_list(a.type):
        return pc.list_value_length(a).equals(pc.list_value_length(b)) and _equal(a.flatten(), b.flatten())
    if pa.types.is_floating(a.type):
        bits = pa.int32() if a.type == pa.float32() else pa.int64()
        return a.view(bits).equals(b.view(bits))
    return a.equals(b)


class FileIndex:
    """First row and bytes of each batch of a file, whose header ends at byte `header`."""

    def __init__(self, header: int) -> None:
        self.rows = 0
        self._firsts, self._ends = array("q"), array("q", [header])

    @classmethod
    def from_content(cls, content: pa.Buffer, columns: pa.Schema) -> FileIndex:
        """Return the index of the batches before the first damaged or unfinished batch."""
        index = cls(header_end(content, columns))
        for batch, end in read_batches(content, columns):
            index.add(batch.num_rows, end)
        return index

    @property
    def end(self) -> int:
        """Return the byte after the last batch."""
        return self._ends[-1]

    def add(self, rows: int, end: int) -> None:
        """Add the next batch, which ends before byte `end`."""
        self._firsts.append(self.rows)
        self._ends.append(end)
        self.rows += rows

    def find(self, row: int) -> tuple[int, int, int]:
        """Return the bytes [begin, end) of the batch with a row of the file, and its first row. Raises `IndexError`."""
        if row >= self.rows:
            raise IndexError(row)
        number = bisect_right(self._firsts, row) - 1
        return self._ends[number], self._ends[number + 1], self._firsts[number]


def read_batches(content: pa.Buffer, columns: pa.Schema) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the batches of a file, each with the byte after it, up to the first damaged or unfinished batch."""
    end = header_end(content, columns) or content.size
    while following := message_end(content, end):
        yield read_batch(content.slice(end, following - end), columns), following
        end = following


def read_batch(message: pa.Buffer, columns: pa.Schema) -> pa.RecordBatch:
    """Return the batch of a message that `read_batches` found. Raises `pa.ArrowInvalid` if it was damaged later."""
    if message_end(message, 0) != message.size:
        raise pa.ArrowInvalid("its checksum differs")
    return pa.ipc.read_record_batch(pa.ipc.read_message(message), columns)


def header_end(content: pa.Buffer, columns: pa.Schema) -> int:
    """Return the end of the header of a file, 0 if it is damaged, unfinished or has other columns."""
    end = message_end(content, 0) or 0
    return end if end and pa.ipc.read_schema(content.slice(0, end)).equals(columns) else 0


def check_rest(content: pa.Buffer, end: int, where: str) -> None:
    """Raise `UserError` if a whole record follows the one at `end`: an interrupted write leaves none there."""
    view, at = memoryview(content)[end:].tobytes(), 0
    while (at := view.find(_CONTINUATION, at + 1)) >= 0:
        place = end + at
        if place % _ALIGNMENT == 0 and message_end(content, place):
            raise UserError(
                f"{where}: damaged at byte {end}: found whole records after it; expected the file as it was written"
                " (`prefrec repair` restores records of earlier versions; else put it back from a copy)"
            )


def message_end(content: pa.Buffer | bytes, begin: int) -> int | None:
    """Return the end of the sealed message that begins at byte `begin`, None if its seal does not match."""
    view = memoryview(content).cast("B")[begin:]
    head = head_end(view)
    if view[:4] != _CONTINUATION or not 8 < head <= _MOST_METADATA:
        return None
    length = checksums.sealed_length(view, head)
    return begin + length if length is not None and length >= head else None
