"""Binary format of the event log: Arrow IPC streams of record batches, each message sealed (storage/seal.py).

Any Arrow reader can open a file. A batch is one group commit. A seal covers all bytes of its message, so that no
damaged byte reaches Arrow.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.storage import seal

#: End mark of a file with a successor; it ends every stream of Arrow.
END = b"\xff\xff\xff\xff\0\0\0\0"
_CONTINUATION, _ALIGNMENT = b"\xff\xff\xff\xff", 8
_MOST_METADATA = 1 << 16
_NOTE = {"prefrec": seal.BLANK}


def header(columns: pa.Schema) -> bytes:
    """Return the header of a file."""
    return seal.fill(columns.with_metadata(_NOTE).serialize().to_pybytes())


def encode(batch: pa.RecordBatch) -> bytes:
    """Return a batch as a message of a file."""
    columns = batch.schema.with_metadata(_NOTE)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns) as writer:
        writer.write_batch(batch, custom_metadata=_NOTE)
    stream = sink.getvalue().to_pybytes()
    return seal.fill(stream[columns.serialize().size : -len(END)])


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
        """Return the bytes [begin, end) of the batch that contains a row of the file, and its first row.

        Raises `IndexError` if no batch contains the row.
        """
        if row >= self.rows:
            raise IndexError(row)
        number = bisect_right(self._firsts, row) - 1
        return self._ends[number], self._ends[number + 1], self._firsts[number]


def read_batches(content: pa.Buffer, columns: pa.Schema) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the batches of a file, each with the byte after it, up to the first damaged or unfinished batch."""
    end = header_end(content, columns) or content.size
    while following := _message_end(content, end):
        yield read_batch(content.slice(end, following - end), columns), following
        end = following


def read_batch(message: pa.Buffer, columns: pa.Schema) -> pa.RecordBatch:
    """Return the batch of a message that `read_batches` found. Raises `pa.ArrowInvalid` if it was damaged later."""
    if _message_end(message, 0) != message.size:
        raise pa.ArrowInvalid("its checksum differs")
    return pa.ipc.read_record_batch(pa.ipc.read_message(message), columns)


def header_end(content: pa.Buffer, columns: pa.Schema) -> int:
    """Return the end of the header of a file, 0 if it is damaged, unfinished or has other columns."""
    end = _message_end(content, 0) or 0
    return end if end and pa.ipc.read_schema(content.slice(0, end)).equals(columns) else 0


def check_rest(content: pa.Buffer, end: int, where: str) -> None:
    """Check that no whole record follows the record that begins at `end`, since an interrupted write leaves none there.

    Raises `UserError`, which begins with `where`.
    """
    view, at = memoryview(content)[end:].tobytes(), 0
    while (at := view.find(_CONTINUATION, at + 1)) >= 0:
        place = end + at
        if place % _ALIGNMENT == 0 and _message_end(content, place):
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
    length = seal.sealed_length(view, 8 + size)
    return begin + length if length is not None and length >= 8 + size else None
