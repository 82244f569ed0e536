"""Repair of logs by versions that could put the seal of a record into a user's text.

A text of a user with `checksums.BLANK` was taken for the place of the seal: the text was changed, and the record
counted as damaged. The seal in the text still covers the record, so that text and seal can be put right.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import (
    COMMIT_ROWS,
    SEGMENTS,
    SUFFIX,
    Kind,
    encode,
    head_end,
    header,
    header_end,
    message_end,
    read_about,
    read_batch,
    sealed,
)
from prefrec_ray.logs.events.segments import DAMAGED, content_of, first_row, list_segments, read_tables, write_segment
from prefrec_ray.storage import checksums

_BLANK = checksums.BLANK.encode()


def repair(folder: str) -> tuple[int, int]:
    """Repair the log in `folder`, which no server may write.

    Args:
        folder: the folder of `prefrec serve --state`, on a local disk.

    Returns:
        The numbers of repaired records, and of rows that are in the log again. Snapshots lack these rows.

    Raises:
        UserError: `folder` is not a log on a local disk, a file is damaged in another way, or a server uses it.
    """
    columns, records, restored = read_about(folder).columns, 0, 0
    with storage.claimed(folder), storage.claimed(storage.join(folder, SEGMENTS)) as partial:
        for file in list_segments(folder):
            if file.endswith(SUFFIX):
                buffer = content_of(file)
                begin, content = header_end(buffer, columns), buffer.to_pybytes()
                messages, number, end = _messages(content, begin)
                if number:
                    _replace(file, b"".join([content[:begin], *messages, content[end:]]), partial)
                    records += number
        for side in storage.list_files(storage.join(folder, SEGMENTS), DAMAGED):
            messages, number, _ = _messages(Path(storage.absolute(side)).read_bytes(), 0)
            if number:
                lost = pa.Table.from_batches([read_batch(pa.py_buffer(message), columns) for message in messages])
                _restore(folder, lost, partial)
                Path(storage.absolute(side)).unlink()
                records, restored = records + number, restored + len(lost)
    return records, restored


def _messages(content: bytes, begin: int) -> tuple[list[bytes], int, int]:
    """Return the whole messages from byte `begin` on, how many of them were repaired, and the end of the last one."""
    messages, number, end = [], 0, begin
    while end < len(content):
        following = message_end(content, end)
        message = content[end:following] if following else _repaired(content[end:])
        if message is None:
            break
        messages.append(message)
        number, end = number + (following is None), end + len(message)
    return messages, number, end


def _repaired(content: bytes) -> bytes | None:
    """Return the first message of `content` with its seal in the metadata; None if it has another damage."""
    place = head_end(content)
    if content.find(_BLANK, 0, place) < 0:
        return None
    while (place := content.find(b"seal:", place)) >= 0:
        length = checksums.covered(content, place)
        if length is not None:
            return sealed(content[:place] + _BLANK + content[place + len(_BLANK) : length])
        place += 1
    return None


def _restore(folder: str, lost: pa.Table, partial: str) -> None:
    """Put the rows `lost` into the file that keeps their numbers free. Raises `UserError` if they are not free."""
    files, first = list_segments(folder), lost["number"][0].as_py()
    at = [first_row(file) for file in files].index(first)
    file, following = files[at], files[at + 1] if at + 1 < len(files) else None
    end = None if following is None else first_row(following)
    rows = pa.concat_tables(read_tables([file], lost.schema, end=end))
    if not pc.all(pc.equal(rows["kind"].slice(0, len(lost)), pa.scalar(int(Kind.SKIPPED), pa.int8()))).as_py():
        raise UserError(f"{file}: found events at row {first}; expected the empty rows of a damaged record")
    table = pa.concat_tables([lost, rows.slice(len(lost))]).combine_chunks()
    if following is not None:
        write_segment(file, table, partial)
        Path(storage.absolute(file)).with_suffix(SUFFIX).unlink(missing_ok=True)
    else:
        batches = table.to_batches(max_chunksize=COMMIT_ROWS)
        _replace(file, header(lost.schema) + b"".join(map(encode, batches)), partial)


def _replace(file: str, content: bytes, partial: str) -> None:
    with storage.private():
        storage.write_bytes(partial, content)
    os.replace(partial, storage.absolute(file))
    storage.sync(os.path.dirname(storage.absolute(file)))
