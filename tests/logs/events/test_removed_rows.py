"""Rows of users are removed from a log: all other rows stay, in order, under their numbers."""

import os
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from event_log import ABOUT
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import killed_copies

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import (
    any_row,
    compact,
    of_users,
    received_before,
    remove_damaged,
    remove_rows,
    same,
    with_bytes_of,
)

USERS = 5
#: Kind of a row and its user; rows of other kinds have no user.
ROWS = st.tuples(
    st.sampled_from([Kind.RECOMMENDED, Kind.FEEDBACK, Kind.ITEM, Kind.WITHDRAWN, Kind.ARMS]), st.integers(0, USERS - 1)
)


def event(kind: Kind, user: int, number: int, text: bool) -> Event:
    """Return a row in which every value depends on its number or user."""
    of_user = kind in (Kind.RECOMMENDED, Kind.FEEDBACK)
    return Event(
        kind,
        timestamp=1_000 + number,
        event_id=f"e{number}",
        user=f"user {user}" if of_user and text else None,
        user_number=user if of_user and not text else None,
        received=2_000 + number,
        items=[number, number + 1] if kind != Kind.ARMS else None,
        propensities=[0.5, float("nan")] if of_user else None,
        feedback=[-0.0] if kind == Kind.FEEDBACK else None,
        note="é" if kind == Kind.ARMS else None,
    )


def fill(folder: Path, batches: list[list[tuple[Kind, int]]], text: bool = False) -> None:
    write_about(str(folder), About(**ABOUT))
    log = EventLog(str(folder), pa.int64())
    for rows in batches:
        log.commit([event(kind, user, log.next + place, text) for place, (kind, user) in enumerate(rows)])
    log.close()


def whole(folder: Path) -> pa.Table:
    log = EventLog(str(folder), pa.int64())
    rows = pa.concat_tables([log.schema.empty_table(), *log.tables()])
    log.close()
    return rows


def close_last(folder: Path) -> None:
    log = EventLog(str(folder), pa.int64())
    log.begin_file()
    log.close()


@settings(max_examples=40)
@given(
    st.lists(st.lists(ROWS, min_size=1, max_size=6), min_size=1, max_size=12),
    st.sets(st.integers(0, USERS - 1)),
    st.booleans(),
    st.booleans(),
)
def test_other_rows_are_unchanged_in_order(
    batches: list[list[tuple[Kind, int]]], gone: set[int], text: bool, is_compact: bool
) -> None:
    with TemporaryDirectory() as place, patch.object(log_module, "SEGMENT_BYTES", 4_000):
        folder = Path(place)
        fill(folder, batches, text)
        if is_compact:
            compact(place, 4e9)
        before = whole(folder)
        close_last(folder)
        users = [f"user {user}" if text else str(user) for user in gone]
        column = before["user" if text else "user_number"].to_pylist()
        expected = np.array([value is not None and str(value) in users for value in column])
        assert any_row(place, of_users(users)) == expected.any()
        assert remove_rows(place, of_users(users)) == expected.sum()
        assert len({file.name.partition(".")[0] for file in files(folder)}) == len(files(folder))
        after = whole(folder)
        assert same(after.filter(pa.array(~expected)), before.filter(pa.array(~expected)))
        empty = pa.Table.from_pylist(
            [
                {**dict.fromkeys(before.column_names), "number": number, "kind": 7, "timestamp": 0, "event_id": ""}
                for number in np.flatnonzero(expected).tolist()
            ],
            before.schema,
        )
        assert same(after.filter(pa.array(expected)).combine_chunks(), empty.combine_chunks()) or not expected.any()
        assert not any_row(place, of_users(users))
        assert remove_rows(place, of_users(users)) == 0
        log = EventLog(place, pa.int64())
        assert log.commit([event(Kind.FEEDBACK, 0, 0, text)]) == len(before)  # no number is used again
        log.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of several files, the last one empty. User 1 has rows in each of the others."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 4_000)
    fill(tmp_path, [[(Kind.RECOMMENDED, user), (Kind.FEEDBACK, user)] for user in range(4)] * 3)
    close_last(tmp_path)
    assert len(files(tmp_path)) > 4
    return tmp_path


def files(folder: Path) -> list[Path]:
    return sorted((folder / "events").iterdir())


def test_nothing_of_the_users_is_left_in_the_files(tmp_path: Path) -> None:
    fill(tmp_path, [[(Kind.RECOMMENDED, 1), (Kind.FEEDBACK, 2)]] * 3, text=True)
    close_last(tmp_path)
    assert any(b"user 1" in file.read_bytes() for file in files(tmp_path))
    remove_rows(str(tmp_path), of_users(["user 1"]))
    assert not any(b"user 1" in file.read_bytes() for file in files(tmp_path))
    assert {file.stat().st_mode & 0o777 for file in files(tmp_path)} == {0o600}


def test_a_log_with_removed_rows_that_lacks_a_file_is_refused(folder: Path) -> None:
    remove_rows(str(folder), of_users(["1"]))
    kept = {file: file.read_bytes() for file in files(folder)}
    for file, content in kept.items():
        file.unlink()
        with pytest.raises(UserError, match="missing"):
            whole(folder)
        file.write_bytes(content)
    first = files(folder)[0]
    content = bytearray(kept[first])
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    with pytest.raises(UserError, match=f"^{first}: damaged"):
        whole(folder)


def test_a_server_that_runs_writes_on(folder: Path) -> None:
    log = EventLog(str(folder), pa.int64())
    rows = [log.read(number) for number in range(log.next)]
    remove_rows(str(folder), of_users(["1"]))
    for row in rows:
        found = log.read(row["number"])
        assert str(found) == str(row) or (row["user_number"], found["kind"]) == (1, Kind.SKIPPED)
    assert log.commit([event(Kind.FEEDBACK, 1, 0, text=False)]) == len(rows)
    log.close()


def test_old_events_are_removed_and_items_and_arms_stay(tmp_path: Path) -> None:
    fill(tmp_path, [[(kind, 0)] for kind in (Kind.ARMS, Kind.ITEM, Kind.RECOMMENDED, Kind.FEEDBACK) * 3])
    close_last(tmp_path)
    assert remove_rows(str(tmp_path), received_before(2_000 + 7)) == 3
    kinds = whole(tmp_path)["kind"].to_pylist()
    assert kinds[:8] == [Kind.ARMS, Kind.ITEM, 7, 7, Kind.ARMS, Kind.ITEM, 7, Kind.FEEDBACK]


def test_damaged_records_with_bytes_of_an_id_are_removed(tmp_path: Path) -> None:
    fill(tmp_path, [])
    contents = {"a": b"..user 1..", "b": b"..user 2..", "c": (77).to_bytes(8, "little")}
    for name, content in contents.items():
        (tmp_path / "events" / f"{name}.damaged").write_bytes(content)
    assert remove_damaged(str(tmp_path), with_bytes_of(["user 1", "77"])) == 2
    assert [file.name for file in files(tmp_path) if file.suffix == ".damaged"] == ["b.damaged"]


def test_a_kill_leaves_old_or_new_files_and_a_second_call_finishes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = whole(folder)
    of_user = np.array(before["user_number"].to_pylist()) == 1
    borders = [int(file.stem) for file in files(folder)]
    seen = set()
    act, copies = lambda place: remove_rows(str(place), of_users(["1"])), tmp_path_factory.mktemp("copies")
    for killed in killed_copies(act, folder, copies, "logs/events", "storage"):
        after = whole(killed)
        removed = np.array(after["kind"].to_pylist()) == Kind.SKIPPED
        seen.add(int(removed.sum()))
        assert same(after.filter(pa.array(~removed)), before.filter(pa.array(~removed)))
        for first, end in pairwise(borders):
            assert removed[first:end].tolist() in (of_user[first:end].tolist(), [False] * (end - first))
        remove_rows(str(killed), of_users(["1"]))
        assert not any_row(str(killed), of_users(["1"]))
        assert not [name for name in os.listdir(killed) if name.endswith(".partial") and "claim" not in name]
        assert [int(file.stem) for file in files(killed)] == borders
    assert {0, int(of_user.sum())} < seen
