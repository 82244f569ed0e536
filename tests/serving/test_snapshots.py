"""Snapshots of users' states: written one at a time, and found again beside what a killed process left."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from platform_desk import Desk, make_policy, with_server

from prefrec_ray import storage
from prefrec_ray.serving.bodies import Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.snapshots import Snapshot


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Of 40 items."""
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


def names(state: Path) -> list[str]:
    """Of the snapshots of a server."""
    return [folder.rpartition("/")[2] for folder in storage.list_folders(str(state / "snapshots"))]


def test_a_snapshot_that_a_killed_process_left_half_written_does_not_hide_the_one_before(
    policy: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    desk = Desk(policy, state)
    desk.one(Recommend(user=1, k=2))
    desk.stop(save=True)
    (whole,) = names(state)
    storage.make_folder(str(state / "snapshots" / f"{9:015d}.0a1b2c3d.partial"))
    desk = Desk(policy, state)
    assert desk.opened.notes == []
    desk.one(Recommend(user=1, k=2))
    desk.stop(save=True)
    assert names(state) == [f"{int(whole) + 1:015d}"]


def test_the_last_snapshot_waits_for_the_one_before(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes all others than its own: of two at a time none might be left."""
    write, turn, together = Snapshot.write, threading.Lock(), []

    def slowly(snapshot: Snapshot, folder: str) -> None:
        together.append(not turn.acquire(blocking=False))
        time.sleep(0.2)
        write(snapshot, folder)
        if not together[-1]:
            turn.release()

    monkeypatch.setattr(Snapshot, "write", slowly)

    async def act(server: Server) -> None:
        for user in range(3):
            await server.do(Recommend(user=user, k=2))

    with_server(policy, tmp_path / "state", act, snapshot_events=2)
    assert len(together) > 1
    assert not any(together)
    assert names(tmp_path / "state") == [f"{4:015d}"]


def test_a_flipped_bit_costs_time_and_nothing_else(policy: Path, tmp_path: Path) -> None:
    """In a digit of an id, say: the file would be as well-formed as before, and of another user."""
    state = tmp_path / "state"
    desk = Desk(policy, state)
    for user in range(100, 105):
        desk.one(Recommend(user=user, k=2))
    desk.stop(save=True)
    expected = {
        user: desk.engine.state.people.seen(row).tolist() for row, user in enumerate(desk.engine.state.people.ids)
    }
    files = sorted(file for file in (state / "snapshots").rglob("*") if file.is_file())
    flips = [(file, place) for file in files for place in np.linspace(0, file.stat().st_size - 1, 7).astype(int)]
    (described,) = (state / "snapshots").glob("*/state.json")
    flips.append((described, described.read_bytes().index(b"101") + 2))
    for file, place in flips:
        content = file.read_bytes()
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        desk = Desk(policy, state)
        (note,) = desk.opened.notes
        assert note.endswith("the whole log is read")
        people = desk.engine.state.people
        assert {user: people.seen(row).tolist() for row, user in enumerate(people.ids)} == expected
        desk.stop()
        file.write_bytes(content)
    desk = Desk(policy, state)
    assert desk.opened.notes == []
    desk.stop()
