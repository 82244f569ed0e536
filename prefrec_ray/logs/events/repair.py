"""Repair of the last file of a log after a crash. A damaged or unfinished record is kept in another file."""

from __future__ import annotations

import os
from pathlib import Path

from prefrec_ray import storage
from prefrec_ray.logs.events.records import END

#: Rows that a record of 0 bytes may have had, and a lower bound of the bytes of a row in Arrow's format.
_ROWS, _ROW_BYTES = 1024, 64


def keep_rest(path: Path, rest: bytes, place: int) -> Path:
    """Write `rest`, the bytes of the file `path` from `place` on, to a file next to it, and return its path."""
    number = 0
    while True:
        side = path.with_name(f"{path.name}.{place}{f'-{number}' if number else ''}.damaged")
        if not side.exists() or side.read_bytes() == rest:
            write_whole(side, rest)
            return side
        number += 1


def lost_rows(rest: bytes) -> int:
    """Return the largest number of rows that records in the bytes `rest` may have had."""
    return max(_ROWS, len(rest) // _ROW_BYTES)


def write_whole(path: Path, content: bytes) -> None:
    """Write the file `path`, readable only by its owner, whole or not at all; it is on the disk when this returns."""
    with storage.private():
        storage.write_bytes(str(path), content)
    storage.sync(str(path.parent))


def end_file(path: Path) -> None:
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
