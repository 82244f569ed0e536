"""Compaction: closed files of a log become Parquet, and no row is lost."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_log import ABOUT as PLAIN
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events import segments
from prefrec_ray.logs.events.format import About, Event, Kind, batch_of, same, schema, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import compact

ABOUT = {**PLAIN, "feedback": ["like", "watch"]}
ROWS, LATER = 60, 4_000_000_000.0


def event(number: int) -> Event:
    return Event(
        Kind.FEEDBACK if number % 3 else Kind.RECOMMENDED,
        timestamp=number,
        event_id=f"e{number}",
        user_number=number % 7,
        items=[number, number + 1] if number % 5 else None,
        propensities=[0.5, float("nan")],
        feedback=[float(number), -0.0],
        position=number % 4 or None,
        known=True,
        note=None if number % 2 else "é",
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of several files."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 6_000)
    monkeypatch.setattr(segments, "_ROWS", 4)
    write_about(str(tmp_path), About(**ABOUT))
    log = EventLog(str(tmp_path), pa.int64())
    while log.next < ROWS:
        log.commit([event(log.next + n) for n in range(3)])
    log.close()
    assert len(names(tmp_path)) > 3
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "events").iterdir())


def whole(log: EventLog, since: int = 0) -> pa.Table:
    return pa.concat_tables(log.tables(since))


def test_a_log_without_its_last_file_is_refused(folder: Path) -> None:
    compact(str(folder), LATER)
    (last,) = (folder / "events").glob("*.arrow")
    last.unlink()
    last = folder / "events" / names(folder)[-1]
    with pytest.raises(UserError, match=f"^{last}: found no file after it; .* rows are missing"):
        EventLog(str(folder), pa.int64())


@pytest.mark.parametrize("place", [0, 10, 900, -300, -1])
def test_a_flipped_bit_of_a_file_is_refused(folder: Path, place: int) -> None:
    compact(str(folder), LATER)
    first = folder / "events" / names(folder)[0]
    content = bytearray(first.read_bytes())
    content[place] ^= 1
    first.write_bytes(content)
    log = EventLog(str(folder), pa.int64())
    for read in (lambda: whole(log), lambda: log.read(0)):
        with pytest.raises(UserError, match=f"^{first}: damaged: its checksum differs"):
            read()


def test_files_are_readable_by_their_owner_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while they are written."""
    modes, fsync = [], os.fsync

    def watched(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if name.endswith(".partial") and ".claim" not in name:
            modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fsync(handle)

    before = os.umask(0)
    monkeypatch.setattr(os, "fsync", watched)
    closed = compact(str(folder), LATER)
    os.umask(before)
    assert modes == [0o600] * closed
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "events").iterdir()} == {0o600}


def test_a_server_that_runs_reads_on_and_another_start_finds_all(folder: Path) -> None:
    log = EventLog(str(folder), pa.int64())
    before, rows = whole(log), [log.read(number) for number in range(ROWS)]
    closed = len(names(folder)) - 1
    assert compact(str(folder), LATER) == closed
    assert [name.rpartition(".")[2] for name in names(folder)] == ["parquet"] * closed + ["arrow"]
    for reader in (log, EventLog(str(folder), pa.int64())):
        assert same(whole(reader), before)
        assert same(whole(reader, 7), before.slice(7))
        assert [str(reader.read(number)) for number in range(ROWS)] == [str(row) for row in rows]
        assert reader.next == ROWS
    assert log.commit([event(ROWS)]) == ROWS
    assert compact(str(folder), LATER) == 0


def test_files_that_were_written_to_lately_stay(folder: Path) -> None:
    first, second = (folder / "events" / name for name in names(folder)[:2])
    os.utime(first, (1000, 1000))
    assert compact(str(folder), 2000) == 1
    assert (first.exists(), second.exists()) == (False, True)


def test_a_file_that_is_damaged_stays_as_it_is(folder: Path) -> None:
    first = folder / "events" / names(folder)[0]
    content = first.read_bytes()
    first.write_bytes(content.replace(b"e4", b"f4", 1))
    before = names(folder)
    with pytest.raises(UserError, match=rf"^{first}: damaged at byte \d+: found rows up to 3; expected rows up to \d"):
        compact(str(folder), LATER)
    assert names(folder) == before


def test_what_would_differ_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(folder)
    monkeypatch.setattr(segments.pq, "read_table", lambda *_, **__: pq.ParquetFile(_[0]).read().slice(1))
    with pytest.raises(UserError, match="its Parquet differs from it"):
        compact(str(folder), LATER)
    assert names(folder) == before
    assert not list(folder.glob("events.*"))


@pytest.mark.parametrize("moment", ["fsync", "replace", "unlink"])
def test_a_kill_at_any_moment_loses_nothing(folder: Path, moment: str) -> None:
    """SIGKILL in a process of its own, right after the third call that writes, names or removes a file."""
    before = whole(EventLog(str(folder), pa.int64()))
    places = {"fsync": "segments.os", "replace": "segments.os", "unlink": "segments.Path"}
    code = f"""
import os, signal, sys
from prefrec_ray.logs.events import segments
calls, of = 0, {places[moment]}
plain = of.{moment}
def killed(*a, **k):
    global calls
    result = plain(*a, **k)
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
of.{moment} = killed
segments.compact(sys.argv[1], {LATER})
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert same(whole(EventLog(str(folder), pa.int64())), before)
    compact(str(folder), LATER)
    assert same(whole(EventLog(str(folder), pa.int64())), before)
    assert [path.name for path in folder.iterdir() if "partial" in path.name or "claim" in path.name] == []
    assert sum(name.endswith(".arrow") for name in names(folder)) == 1


FLOATS = st.lists(
    st.one_of(st.none(), st.lists(st.sampled_from([0.0, -0.0, 1.5, float("nan")]), max_size=2)), max_size=4
)


@given(FLOATS, FLOATS)
def test_tables_are_the_same_when_their_bits_are(a: list, b: list) -> None:
    tables = []
    for lists in (a, b):
        rows = [Event(Kind.FEEDBACK, 1, feedback=values, propensities=values) for values in lists]
        tables.append(pa.Table.from_batches([batch_of(rows, 0, schema(pa.int64()))]))
    bits = [[None if x is None else [np.float32(v).tobytes() for v in x] for x in lists] for lists in (a, b)]
    assert same(*tables) == (bits[0] == bits[1])


def test_a_compact_log_is_smaller_and_opened_by_any_reader(folder: Path) -> None:
    compact(str(folder), time.time() + 1)
    file = folder / "events" / names(folder)[0]
    assert pq.read_table(file)["number"].to_pylist()[:3] == [0, 1, 2]
