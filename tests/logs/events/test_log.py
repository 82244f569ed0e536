"""The event log: committed rows are read again after any damage to the end of its last file."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events import segments
from prefrec_ray.logs.events.format import Event, Kind, header
from prefrec_ray.logs.events.format import schema as log_schema
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import read_tables

HEADER = len(header(log_schema(pa.int64())))


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_ROWS", 4)


def event(number: int) -> Event:
    return Event(
        Kind.FEEDBACK,
        timestamp=1_000 + number,
        event_id=f"e{number}",
        user_number=number % 7,
        items=[number, number + 1],
        propensities=[0.5, float("nan")],
        feedback=[float(number), 0.25],
        known=True,
        note=None if number % 2 else "é",
    )


def fill(folder: Path, sizes: list[int]) -> list[int]:
    """Commits batches of these sizes; returns the size of the (only) file after each."""
    log = EventLog(str(folder), pa.int64())
    (file,) = map(Path, segments.list_segments(str(folder)))
    ends = [file.stat().st_size]
    for size in sizes:
        log.commit([event(log.next + i) for i in range(size)])
        ends.append(file.stat().st_size)
    log.close()
    return ends


def numbers(log: EventLog, since: int = 0) -> list[int]:
    rows = [row for table in log.tables(since) for row in table.to_pylist()]
    return [row["timestamp"] - 1_000 for row in rows if row["kind"] == 2]


def test_what_was_committed_comes_back(tmp_path: Path) -> None:
    fill(tmp_path, [1, 3, 32])
    log = EventLog(str(tmp_path), pa.int64())
    assert log.notes == []
    assert (log.next, numbers(log), numbers(log, 2)) == (36, list(range(36)), list(range(2, 36)))
    row = log.read(2)
    assert (row["number"], row["event_id"], row["user_number"], row["items"], row["note"]) == (2, "e2", 2, [2, 3], "é")
    assert row["feedback"] == [2.0, 0.25]
    assert np.isnan(row["propensities"][1])
    with pytest.raises(IndexError):
        log.read(36)


def test_an_empty_log(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    assert (numbers(log), log.next) == ([], 0)


def test_a_file_in_the_place_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("")
    with pytest.raises(UserError, match="events: cannot be written"):
        EventLog(str(tmp_path), pa.int64())


def test_its_folder_is_on_the_disk_before_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    log = EventLog(str(tmp_path), pa.int64())
    log.commit([event(0)])
    log.close()
    folder = tmp_path / "events"
    assert synced == [tmp_path, folder, folder / f"{0:015d}.arrow"]


def test_any_arrow_reader_opens_it(tmp_path: Path) -> None:
    fill(tmp_path, [2, 2])
    (file,) = (tmp_path / "events").iterdir()
    assert pa.ipc.open_stream(pa.OSFile(str(file))).read_all()["number"].to_pylist() == [0, 1, 2, 3]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_a_damaged_or_unfinished_last_record_is_kept_aside_and_its_numbers_are_not_used_again(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    ends = fill(folder, sizes)
    (file,) = (folder / "events").iterdir()
    content = file.read_bytes()
    ends[0] = HEADER
    place = data.draw(st.integers(ends[-2], ends[-1] - 1))
    if data.draw(st.booleans()):
        content = content[:place] + b"\0" * data.draw(st.integers(0, 600))  # room that a file system gave in advance
    else:
        content = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    whole = len(sizes) - (not content.startswith(file.read_bytes()))  # its last bytes are zeros
    rest = content[ends[whole] :]
    file.write_bytes(content)
    log, kept, acknowledged = EventLog(str(folder), pa.int64()), sum(sizes[:whole]), sum(sizes)
    if rest:
        (note,) = log.notes
        assert note.startswith(
            f"{file}: damaged or unfinished record at byte {ends[whole]}, of {len(rest)} bytes: kept"
        )
        (side,) = (folder / "events").glob("*.damaged")
        assert (side.read_bytes(), side.name in note, stat.S_IMODE(side.stat().st_mode)) == (rest, True, 0o600)
        assert log.next >= acknowledged
    first = log.commit([event(100)])
    log.close()
    log = EventLog(str(folder), pa.int64())
    assert log.notes == []
    assert numbers(log) == [*range(kept), 100]
    assert log.read(first)["event_id"] == "e100"
    assert [row["number"] for table in log.tables() for row in table.to_pylist()] == list(range(log.next))


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_bit_in_front_of_whole_records_is_refused_with_its_place_and_nothing_is_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    _, *ends = fill(folder, [2, 3, 1])
    (file,) = (folder / "events").iterdir()
    before = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, ends[1] - 1))
    before[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(before)
    begin = max(one for one in (0, HEADER, ends[0]) if one <= place)
    with pytest.raises(UserError, match=f"^{file}: damaged at byte {begin}: ") as caught:
        EventLog(str(folder), pa.int64())
    assert len(str(caught.value).splitlines()) == 1
    assert [file.read_bytes()] == [path.read_bytes() for path in (folder / "events").iterdir()]
    with pytest.raises(UserError, match=f"^{file}: damaged at byte {begin}: "):
        list(read_tables([str(file)], log_schema(pa.int64())))


def test_a_second_damage_at_the_same_place_is_kept_as_well(tmp_path: Path) -> None:
    fill(tmp_path, [1])
    (file,) = (tmp_path / "events").iterdir()
    for content in (b"one", b"two"):
        file.write_bytes(content)
        EventLog(str(tmp_path), pa.int64()).close()
    kept = sorted(path.read_bytes() for path in (tmp_path / "events").glob("*.damaged"))
    assert kept == [b"one", b"two"]


def test_a_row_that_is_damaged_while_a_server_runs_is_refused(tmp_path: Path) -> None:
    ends = fill(tmp_path, [1, 1, 1])
    log = EventLog(str(tmp_path), pa.int64())
    (file,) = (tmp_path / "events").iterdir()
    content = file.read_bytes()
    place = content.index(b"e1", (ends[1] + ends[2]) // 2)
    file.write_bytes(content[:place] + b"f1" + content[place + 2 :])
    assert log.read(2)["event_id"] == "e2"
    with pytest.raises(UserError, match=f"{file}: damaged at byte .* expected row 1"):
        log.read(1)
    with pytest.raises(UserError, match=f"{file}: damaged at byte .* found rows up to 1; expected rows up to 3"):
        numbers(log)


def test_files_follow_each_other_and_none_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 2_000)
    fill(tmp_path, [3] * 6)
    files = sorted((tmp_path / "events").iterdir())
    assert len(files) > 2
    log = EventLog(str(tmp_path), pa.int64())
    assert (numbers(log), numbers(log, 10)) == (list(range(18)), list(range(10, 18)))
    assert log.read(17)["number"] == 17
    log.close()
    ended = files[0].read_bytes()
    second, third = int(files[1].stem), int(files[2].stem)
    os.truncate(files[0], len(ended) - 9)  # the mark of its end, and a byte of its last record
    log = EventLog(str(tmp_path), pa.int64())
    with pytest.raises(
        UserError, match=rf"damaged at byte \d+: found rows up to {second - 3}; expected rows up to {second}"
    ):
        numbers(log)
    assert numbers(log, second) == list(range(second, 18))
    log.close()
    files[1].unlink()
    files[0].write_bytes(ended)
    with pytest.raises(UserError, match=f"rows are missing: found rows up to {second}; expected rows up to {third}"):
        numbers(EventLog(str(tmp_path), pa.int64()))
    files[0].unlink()
    with pytest.raises(UserError, match="expected 0: a file is missing"):
        EventLog(str(tmp_path), pa.int64())


def test_a_log_without_its_last_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers would be given again. No file is missed if a crash came before the next file had a row."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 2_000)
    fill(tmp_path, [3] * 6)
    files = sorted((tmp_path / "events").iterdir())
    last = int(files[-1].stem)
    files[-1].unlink()
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{files[-2]}: ends at row {last}, with no file after it; expected"):
            EventLog(str(tmp_path), pa.int64())
    content = files[-2].read_bytes()
    files[-2].write_bytes(content[:-8])  # a crash before the mark of its end was written
    files[-1].write_bytes(b"")
    log = EventLog(str(tmp_path), pa.int64())
    assert (numbers(log), log.notes, files[-2].read_bytes()) == (list(range(last)), [], content)


def test_a_file_that_begins_while_the_log_is_listed_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server commits while policies are read again, in another thread."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 1)
    log = EventLog(str(tmp_path), pa.int64())
    for _ in range(3):
        log.commit([event(log.next)])

    class Paths(list[Path]):
        def __iter__(self) -> Iterator[Path]:
            yield from list(super().__iter__())
            if log.next == 3:
                log._paths = list(super().__iter__())
                log.commit([event(log.next)])

    log._paths = Paths(log._paths)
    for rows in (3, 4):
        assert sum(len(table) for table in log.tables()) == rows


def test_a_disk_that_is_full_when_a_file_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 1_500)
    log = EventLog(str(tmp_path), pa.int64())

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number in range(6):
        for name in ("write", "open"):
            with monkeypatch.context() as patched:
                patched.setattr(os, name, full)
                if name == "write" or log._file is None or log._size >= 1_500:
                    with pytest.raises(OSError, match="No space left"):
                        log.commit([event(99)] * 5)
        assert log.commit([event(number)]) == number
    log.close()
    log = EventLog(str(tmp_path), pa.int64())
    assert numbers(log) == list(range(6))
    assert [log.read(number)["number"] for number in range(6)] == list(range(6))


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    log.commit([event(0)])
    write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:100])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.commit([event(7), event(8)])
    monkeypatch.setattr(os, "write", write)
    assert log.commit([event(1)]) == 1
    log.close()
    assert numbers(EventLog(str(tmp_path), pa.int64())) == [0, 1]


def test_after_a_failed_fsync_nothing_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    log.commit([event(0)])

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            log.commit([event(1)])
    with pytest.raises(OSError, match="start again"):
        log.commit([event(1)])
