"""Event logs of version 1 are read, damage in them is noticed, and new rows go to files of this version."""

import random
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind, batch_of, schema
from prefrec_ray.logs.events.log import EventLog

COLUMNS = schema(pa.int64())


def write(folder: Path, sizes: list[int]) -> tuple[Path, list[int]]:
    """Write a file as version 1 did; return it, and where its header and its records end."""
    (folder / "events").mkdir(parents=True)
    file, number = folder / "events" / "000000000000000.arrow", 0
    with file.open("wb") as sink, pa.ipc.new_stream(sink, COLUMNS) as writer:
        ends = [COLUMNS.serialize().size]
        for size in sizes:
            events = [
                Event(Kind.FEEDBACK, 1_000 + n, event_id=f"e{n}", user="é" * n if n % 2 else None, items=[n])
                for n in range(number, number + size)
            ]
            batch = batch_of(events, number, COLUMNS)
            body = pa.ipc.read_message(batch.serialize()).body
            writer.write_batch(batch, custom_metadata={"crc32": str(zlib.crc32(body))})
            ends.append(sink.tell())
            number += size
    file.write_bytes(file.read_bytes()[: ends[-1]])  # such a file has no mark of its end
    return file, ends


def rows(folder: Path) -> list[str]:
    log = EventLog(str(folder), pa.int64())
    found = [row["event_id"] for table in log.tables() for row in table.to_pylist() if row["kind"] == Kind.FEEDBACK]
    log.close()
    return found


def test_an_upgrade_loses_nothing(tmp_path: Path) -> None:
    file, _ = write(tmp_path, [2, 3])
    log = EventLog(str(tmp_path), pa.int64())
    assert log.notes == [f"{file}: has an earlier version; new rows go to a file of this version"]
    assert log.commit([Event(Kind.FEEDBACK, 1, event_id="e5")]) == 5
    assert (log.read(1)["event_id"], log.read(5)["event_id"]) == ("e1", "e5")
    log.close()
    assert sorted(path.name for path in file.parent.iterdir()) == [f"{0:015d}.arrow", f"{5:015d}.arrow"]
    assert rows(tmp_path) == [f"e{n}" for n in range(6)]
    (file.parent / f"{5:015d}.arrow").unlink()
    with pytest.raises(UserError, match="ends at row 5, with no file after it"):
        EventLog(str(tmp_path), pa.int64())


def test_a_header_without_rows(tmp_path: Path) -> None:
    write(tmp_path, [])
    log = EventLog(str(tmp_path), pa.int64())
    assert log.commit([Event(Kind.FEEDBACK, 1, event_id="e0")]) == 0
    log.close()
    assert rows(tmp_path) == ["e0"]


def test_an_unfinished_record_is_kept_aside(tmp_path: Path) -> None:
    file, ends = write(tmp_path, [2, 3])
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    (note,) = (log := EventLog(str(tmp_path), pa.int64())).notes
    log.close()
    assert note.startswith(f"{file}: damaged or unfinished record at byte {ends[1]}, ")
    (side,) = file.parent.glob("*.damaged")
    assert side.read_bytes() == content[ends[1] : -1]
    assert rows(tmp_path) == ["e0", "e1"]


def test_flipped_bits_change_no_row(tmp_path: Path) -> None:
    """Nor do they end the process by a signal, which they did when bytes reached Arrow before their checksum."""
    file, ends = write(tmp_path, [2, 3, 1])
    whole, refused = file.read_bytes(), []
    generator = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        content[generator.randrange(ends[2])] ^= 1 << generator.randrange(8)
        file.write_bytes(content)
        try:
            assert rows(tmp_path) == [f"e{n}" for n in range(6)]
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(line.startswith(f"{file}: damaged at byte ") for line in refused)
