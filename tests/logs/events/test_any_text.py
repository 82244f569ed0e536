"""Texts of users that look like marks of the format are read back as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from event_log import ABOUT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefrec_ray.logs.events import format as log_format
from prefrec_ray.logs.events.format import About, Event, Kind, schema, write_about
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
