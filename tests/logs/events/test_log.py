"""The event log: what was committed is there, whatever happened to the end of its last file."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import Event, Kind, batch_of, checksum, schema
from prefrec_ray.logs.events.log import EventLog


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
    ends = [log.size]
    for size in sizes:
        log.commit([event(log.next + i) for i in range(size)])
        ends.append(log.size)
    log.close()
    return ends


def numbers(log: EventLog, since: int = 0) -> list[int]:
    return [row["timestamp"] - 1_000 for table in log.tables(since, 4) for row in table.to_pylist()]


def test_what_was_committed_comes_back(tmp_path: Path) -> None:
    fill(tmp_path, [1, 3, 32])
    log = EventLog(str(tmp_path), pa.int64())
    assert log.repaired is None
    assert (log.next, numbers(log), numbers(log, 2)) == (36, list(range(36)), list(range(2, 36)))
    row = log.read(2)
    assert (row["number"], row["event_id"], row["user_number"], row["items"], row["note"]) == (2, "e2", 2, [2, 3], "é")
    assert row["feedback"] == [2.0, 0.25]
    assert np.isnan(row["propensities"][1])
    with pytest.raises(IndexError):
        log.read(36)


def test_an_empty_log(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    assert (numbers(log), log.next, log.size) == ([], 0, 0)


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


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_a_torn_last_record_is_cut_off_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    ends = fill(folder, sizes)
    (file,) = (folder / "events").iterdir()
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(file, cut)
    zeros = data.draw(st.integers(0, 600))  # a file system may have given room that was not written to yet
    with file.open("ab") as tail:
        tail.write(b"\0" * zeros)
    whole = sum(end <= cut for end in ends[1:])
    if zeros and cut < ends[-1]:  # the missing bytes may have been zeros
        whole = sum(end <= cut or (not any(original(sizes)[cut:end]) and cut + zeros >= end) for end in ends[1:])
    log = EventLog(str(folder), pa.int64())
    kept = sum(sizes[:whole])
    assert numbers(log) == list(range(kept))
    assert (log.repaired is None) == (cut + zeros in (ends[whole] if whole else len(log._encode.header), 0))
    assert log.repaired is None or len(log.repaired.splitlines()) == 1
    log.commit([event(kept)])
    log.close()
    assert numbers(EventLog(str(folder), pa.int64())) == list(range(kept + 1))


def original(sizes: list[int]) -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        fill(Path(folder), sizes)
        (file,) = (Path(folder) / "events").iterdir()
        return file.read_bytes()


@settings(max_examples=60)
@given(st.data())
def test_a_changed_byte_before_the_last_record_is_refused_and_nothing_is_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    ends = fill(folder, [2, 3, 1])
    (file,) = (folder / "events").iterdir()
    before = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, ends[2] - 1))
    before[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(before)
    line = f"{file}: damaged at byte "
    try:
        # Padding, or a byte of the envelope that says nothing, makes no difference.
        assert numbers(EventLog(str(folder), pa.int64())) == list(range(6))
    except UserError as error:
        line = str(error)
    assert line.startswith(f"{file}: damaged at byte ")
    assert file.read_bytes() == before


def test_files_follow_each_other_and_none_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 2_000)
    fill(tmp_path, [3] * 6)
    files = sorted((tmp_path / "events").iterdir())
    assert len(files) > 2
    log = EventLog(str(tmp_path), pa.int64())
    assert (numbers(log), numbers(log, 10)) == (list(range(18)), list(range(10, 18)))
    assert log.read(17)["number"] == 17
    log.close()
    os.truncate(files[0], files[0].stat().st_size - 1)
    log = EventLog(str(tmp_path), pa.int64())
    second, third = int(files[1].stem), int(files[2].stem)
    with pytest.raises(UserError, match=rf"000\.arrow: whole up to row {second - 3}; expected rows up to {second}"):
        numbers(log)
    assert numbers(log, second) == list(range(second, 18))
    log.close()
    files[1].unlink()
    with pytest.raises(UserError, match=f"expected rows up to {third}: it is damaged, or one is missing"):
        numbers(EventLog(str(tmp_path), pa.int64()))
    files[0].unlink()
    with pytest.raises(UserError, match="expected 0: a file is missing"):
        EventLog(str(tmp_path), pa.int64())


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


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.lists(st.integers(0, 9))), min_size=1))
def test_a_batch_that_was_read_has_the_checksum_of_the_one_that_was_written(rows: list) -> None:
    columns = schema(pa.int64())
    batch = batch_of([Event(Kind.ITEM, 1, note=note, items=items) for note, items in rows], 5, columns)
    read = pa.ipc.read_record_batch(pa.ipc.read_message(batch.serialize()), columns)
    assert checksum(read) == checksum(batch)
