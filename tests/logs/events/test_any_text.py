"""Texts of users that look like marks of the format are read back as they were written; old logs are repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from event_log import ABOUT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import format as log_format
from prefrec_ray.logs.events.format import About, Event, Kind, batch_of, header, schema, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import compact, list_segments, of_users, read_tables, remove_rows
from prefrec_ray.storage import checksums

MARKS = ["seal:", "seal:0000000000000000", "seal:000001f8deadbeef", "\x00", "ARROW1", "PAR1", "\xff\xff\xff\xff"]
CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TEXT = st.lists(st.sampled_from([*MARKS, "prefrec"]) | CHARACTERS, max_size=4).map("".join)
COLUMNS = schema(pa.string())


@st.composite
def events(draw: Any) -> Event:
    """An event with a text, also bytes read as Latin-1, in every field that holds one."""
    words = TEXT | st.binary(max_size=20).map(lambda content: content.decode("latin-1"))
    return Event(
        draw(st.sampled_from(list(Kind))),
        timestamp=draw(st.integers(0, 2**62)),
        event_id=draw(words),
        user=draw(st.none() | words),
        policy=draw(st.none() | words),
        arm=draw(st.none() | words),
        items=draw(st.none() | st.lists(words, max_size=3)),
        propensities=draw(st.none() | st.lists(st.floats(width=32), max_size=3)),
        note=draw(st.none() | words),
    )


def texts(event: Event | dict[str, Any]) -> list[Any]:
    row = event if isinstance(event, dict) else vars(event)
    return [row[name] for name in ("event_id", "user", "policy", "arm", "items", "note")]


def rows_of(folder: str) -> list[dict[str, Any]]:
    return [row for table in read_tables(list_segments(folder), COLUMNS) for row in table.to_pylist()]


@settings(max_examples=60)
@given(st.lists(st.lists(events(), min_size=1, max_size=4), min_size=1, max_size=3))
@example([[Event(Kind.FEEDBACK, 1, event_id="seal:0000000000000000", user="seal:0000000000000000")]])
def test_any_text_is_read_back(tmp_path_factory: pytest.TempPathFactory, commits: list[list[Event]]) -> None:
    """At once, after a restart, as Parquet, and after the removal of one user."""
    folder = str(tmp_path_factory.mktemp("log"))
    write_about(folder, About(**{**ABOUT, "item_ids": "string"}))
    log = EventLog(folder, pa.string())
    for commit in commits:
        first = log.commit(commit)
        assert [texts(log.read(first + number)) for number in range(len(commit))] == [texts(event) for event in commit]
        log.begin_file()
    log.close()
    written = [texts(event) for commit in commits for event in commit]
    restarted = EventLog(folder, pa.string())
    assert (restarted.notes, restarted.next) == ([], len(written))
    restarted.close()
    assert list(map(texts, rows_of(folder))) == written
    assert compact(folder, before=2**40) == len(commits)
    assert list(map(texts, rows_of(folder))) == written
    user = commits[0][0].user
    if user is not None:
        every = [event for commit in commits for event in commit]
        assert remove_rows(folder, of_users([user])) == sum(event.user == user for event in every)
        emptied = ["", None, None, None, None, None]
        expected = [emptied if event.user == user else texts(event) for event in every]
        assert list(map(texts, rows_of(folder))) == expected


def of_old_version(batch: pa.RecordBatch) -> bytes:
    """The message as earlier versions wrote it: sealed at its last blank, also in a text."""
    note = {"prefrec": checksums.BLANK}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(note)) as writer:
        writer.write_batch(batch, custom_metadata=note)
    size = batch.schema.with_metadata(note).serialize().size
    return checksums.fill(sink.getvalue().to_pybytes()[size:-8])


def old_log(folder: Path, bad: int, records: int = 4) -> list[list[Any]]:
    """A log of an earlier version with `records` records of three rows; the texts of number `bad` have blanks."""
    write_about(str(folder), About(**{**ABOUT, "item_ids": "string"}))
    content, written = header(COLUMNS), []
    for number in range(records):
        strange = checksums.BLANK if number == bad else "plain"
        rows = [
            Event(Kind.FEEDBACK, 5 + n, event_id=f"{number}-{n}", user=f"{strange}{n}", items=["a"], note=strange)
            for n in range(3)
        ]
        content += of_old_version(batch_of(rows, 3 * number, COLUMNS))
        written += [texts(row) for row in rows]
    (folder / "events").mkdir()
    (folder / "events" / f"{0:015d}.arrow").write_bytes(content)
    return written


def test_a_damaged_record_between_others_is_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = old_log(tmp_path, bad=1)
    with pytest.raises(UserError, match="whole records after it"):
        EventLog(str(tmp_path), pa.string())
    assert run(["repair", str(tmp_path)]) == 0
    assert "1 record" in capsys.readouterr().out
    assert list(map(texts, rows_of(str(tmp_path)))) == written
    log = EventLog(str(tmp_path), pa.string())
    assert (log.next, log.notes) == (len(written), [])
    log.close()
    assert run(["repair", str(tmp_path)]) == 0
    assert "nothing to repair" in capsys.readouterr().out


@pytest.mark.parametrize("compacted", [False, True])
def test_a_last_record_that_a_start_put_aside_comes_back(tmp_path: Path, compacted: bool) -> None:
    """Its rows take the numbers that were kept free; events after the start keep theirs."""
    written = old_log(tmp_path, bad=3)
    log = EventLog(str(tmp_path), pa.string())
    assert "damaged" in log.notes[0]
    later = Event(Kind.FEEDBACK, 99, event_id="later", user="u", items=["b"])
    at = log.commit([later])
    if compacted:
        log.begin_file()
        log.commit([later])
        log.close()
        compact(str(tmp_path), before=2**40)
    else:
        log.close()
    assert run(["repair", str(tmp_path)]) == 0
    rows = rows_of(str(tmp_path))
    assert list(map(texts, rows[: len(written)])) == written
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert rows[at]["event_id"] == "later"
    assert {row["kind"] for row in rows[len(written) : at]} == {Kind.SKIPPED}
    assert not list((tmp_path / "events").glob("*.damaged"))


def test_other_damage_stays_as_it_is(tmp_path: Path) -> None:
    old_log(tmp_path, bad=1)
    (file,) = (tmp_path / "events").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert run(["repair", str(tmp_path)]) == 0
    assert file.read_bytes() == bytes(content)


def test_a_record_that_reads_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the seal goes to a wrong place, the commit fails and the log contains nothing of it."""
    log = EventLog(str(tmp_path), pa.string())
    monkeypatch.setattr(log_format, "sealed", checksums.fill)
    with pytest.raises(OSError, match="cannot be read back"):
        log.commit([Event(Kind.FEEDBACK, 1, event_id=checksums.BLANK)])
    monkeypatch.undo()
    assert log.commit([Event(Kind.FEEDBACK, 1, event_id="x", propensities=[float("nan"), -0.0])]) == 0
    assert np.signbit(log.read(0)["propensities"][1])
    log.close()
