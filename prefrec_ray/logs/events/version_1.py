"""Files of the event log of version 1, which are read and no longer written.

A batch's custom metadata `crc32` is the CRC-32 of its message's body, in decimal digits. The metadata itself has no
checksum. So a batch counts only if it is valid and its values, written again, give the same body.
"""

from __future__ import annotations

import zlib

import pyarrow as pa

_CONTINUATION = b"\xff\xff\xff\xff"


def header(columns: pa.Schema) -> bytes:
    """Return the header of a file."""
    return columns.serialize().to_pybytes()


def begins(content: pa.Buffer, columns: pa.Schema) -> bool:
    """Return True if a file begins with the header of version 1."""
    expected = header(columns)
    return content.size >= len(expected) and content.slice(0, len(expected)).to_pybytes() == expected


def read_batch(content: pa.Buffer, begin: int, columns: pa.Schema) -> tuple[pa.RecordBatch, int] | None:
    """Return the batch that begins at byte `begin`, and its end; None if it is damaged or unfinished."""
    if content.size - begin < 16 or content.slice(begin, 4).to_pybytes() != _CONTINUATION:
        return None
    stream = pa.BufferReader(content.slice(begin))
    try:
        message = pa.ipc.read_message(stream)
        if (
            message.type != "record batch"
            or f"{zlib.crc32(message.body)}".encode() not in message.metadata.to_pybytes()
        ):
            return None
        batch = pa.ipc.read_record_batch(message, columns)
        batch.validate(full=True)
        same = pa.ipc.read_message(batch.serialize()).body.equals(message.body)
        return (batch, begin + stream.tell()) if same else None
    except (pa.ArrowException, ValueError, OSError, EOFError):
        return None
