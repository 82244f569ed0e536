"""Snapshots of the server state: written one at a time, found next to half-written ones, and not ahead of the log."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patience import soon
from platform_desk import Desk, make_policy, with_server

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Kind
from prefrec_ray.mdp.frozen import Take, at_once
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.requests.bodies import Feedback, FeedbackBatch, ItemFeedback, PutItem, PutItems, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.problems import Problem

NOW = 1_700_000_000_000


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with 40 items."""
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


def names(state: Path) -> list[str]:
    """Return the names of a server's snapshots."""
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


def test_claims_of_killed_servers_are_removed_with_the_snapshots_before(policy: Path, tmp_path: Path) -> None:
    desk = Desk(policy, tmp_path / "state")
    snapshots = tmp_path / "state" / "snapshots"
    killed = snapshots / "000000000000007.0123abcd.partial"
    killed.mkdir(parents=True)
    for name in (f"{killed.stem}.claim", f"{killed.stem}.claim.89abcdef.partial"):
        (snapshots / name).write_text("{}")
    desk.one(Recommend(user=1, k=1))
    desk.stop(save=True)
    assert [path.name for path in snapshots.iterdir()] == [f"{1:015d}"]


def test_the_last_snapshot_waits_for_the_one_before(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes all others than its own: of two at a time none might be left."""
    write, turn, together = Snapshot.write, threading.Lock(), []

    def slowly(snapshot: Snapshot, folder: str, take: Take = at_once) -> None:
        together.append(not turn.acquire(blocking=False))
        time.sleep(0.2)
        with suppress(OSError):  # the server stops
            write(snapshot, folder, take)
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


def test_a_state_that_differs_from_the_log_is_not_saved(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    async def act(server: Server) -> None:
        monkeypatch.setattr(server.state.users, "see", fail)
        with pytest.raises(Problem, match="MemoryError"):
            await server.do(Recommend(user=1, k=1))
        await server._upkeep.save()  # was due before

    with_server(policy, tmp_path / "state", act)
    assert names(tmp_path / "state") == []


def test_a_flipped_bit_costs_time_and_nothing_else(policy: Path, tmp_path: Path) -> None:
    """For example in a digit of an id: the file would stay well-formed and belong to another user."""
    state = tmp_path / "state"
    desk = Desk(policy, state)
    for user in range(100, 105):
        desk.one(Recommend(user=user, k=2))
    desk.stop(save=True)
    expected = {
        user: desk.engine.state.users.resting(row, NOW, math.inf).tolist()
        for row, user in enumerate(desk.engine.state.users.ids)
    }
    files = sorted(file for file in (state / "snapshots").rglob("*") if file.is_file())
    flips = [(file, place) for file in files for place in np.linspace(0, file.stat().st_size - 1, 2).astype(int)]
    (described,) = (state / "snapshots").glob("*/state.json")
    flips.append((described, described.read_bytes().index(b"101") + 2))
    for file, place in flips:
        content = file.read_bytes()
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        desk = Desk(policy, state)
        (note,) = desk.opened.notes
        assert note.endswith("the whole log is read")
        users = desk.engine.state.users
        assert {user: users.resting(row, NOW, math.inf).tolist() for row, user in enumerate(users.ids)} == expected
        desk.stop()
        file.write_bytes(content)
    desk = Desk(policy, state)
    assert desk.opened.notes == []
    desk.stop()


def test_a_log_that_is_shorter_than_its_snapshot_is_refused(policy: Path, tmp_path: Path) -> None:
    """The numbers of its missing rows would be given again, as event ids of other users."""
    state = tmp_path / "state"
    desk = Desk(policy, state)
    (file,) = (state / "events").iterdir()
    for user in range(3):
        if user == 2:
            shorter = file.read_bytes()
        desk.one(Recommend(user=user, k=2))
    desk.stop(save=True)
    whole = file.read_bytes()
    line = f"{state}/events: rows are missing: found 2; expected at least 3, as in {state}/snapshots/{3:015d} "
    for damaged in (False, True):
        file.write_bytes(shorter)
        if damaged:
            (state / "snapshots" / f"{3:015d}" / "state.json").write_text("")
        with pytest.raises(UserError) as caught:
            Desk(policy, state)
        assert str(caught.value).startswith(line)
    file.write_bytes(whole)
    Desk(policy, state).stop()


def test_a_log_of_which_files_were_removed_is_refused(policy: Path, tmp_path: Path) -> None:
    """With and without a snapshot."""
    state = tmp_path / "state"
    desk = Desk(policy, state)
    desk.one(Recommend(user=1, k=2))
    desk.stop()
    shutil.copytree(state, tmp_path / "copy")
    shutil.rmtree(state / "events")
    for _ in range(2):
        with pytest.raises(
            UserError, match=rf"^{state}/events: rows are missing: found no file next to log\.json; exp"
        ):
            Desk(policy, state)
    (tmp_path / "copy" / "log.json").unlink()
    with pytest.raises(UserError, match=r"copy/log\.json: missing, but events/ has 1 rows; expected both"):
        Desk(policy, tmp_path / "copy")


def test_a_folder_of_another_kind_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    """A policy bundle also has items.parquet, which a server would replace by its own."""
    make_policy().save(str(tmp_path / "policy"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()}
    with pytest.raises(UserError, match=r"policy: found actor.safetensors, but no log.json; expected a new or empty"):
        Desk(tmp_path / "policy", tmp_path / "policy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()} == before
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    Desk(tmp_path / "policy", tmp_path / "disk")


def test_a_start_that_was_killed_before_the_first_row_can_be_repeated(policy: Path, tmp_path: Path) -> None:
    Desk(policy, tmp_path / "state").stop()
    log = tmp_path / "state" / "log.json"
    with_log = [log.read_bytes(), None]
    for content in with_log:
        if content is None:
            log.unlink()
        desk = Desk(policy, tmp_path / "state")
        assert (desk.opened.notes, desk.engine.log.next, log.exists()) == ([], 0, True)
        desk.stop()


def test_a_flipped_bit_of_the_description_of_a_log_is_refused(policy: Path, tmp_path: Path) -> None:
    """For example in `log_id`: feedback on earlier recommendations would have no match."""
    Desk(policy, tmp_path / "state").stop()
    file = tmp_path / "state" / "log.json"
    content = file.read_bytes()
    place = content.index(b'"log_id": "') + 11
    flipped = content[:place] + (b"b" if content[place : place + 1] == b"a" else b"a") + content[place + 1 :]
    file.write_bytes(flipped)
    with pytest.raises(UserError, match=rf"^{file}: damaged: its checksum differs"):
        Desk(policy, tmp_path / "state")


@pytest.mark.parametrize("save", [True, False])
def test_items_keep_their_history_when_a_canary_becomes_the_main_policy(tmp_path: Path, save: bool) -> None:
    """The table of the canary has an added item, another order, and no item 0."""
    items, state = make_policy(items=7).items, tmp_path / "state"
    make_policy(items=6).save(str(tmp_path / "main"))
    table = ItemTable(items.ids[:0:-1].copy(), items.embeddings[:0:-1].copy())
    replace(make_policy(seed=1, items=7), items=table).save(str(tmp_path / "canary"))
    canary = {"name": "canary", "policy": str(tmp_path / "canary"), "share": 0.5}

    async def put(server: Server) -> None:
        await server.put_items(PutItems(items=[PutItem(id=6, embedding=items.embeddings[6].tolist())]))

    with_server(tmp_path / "main", state, put)
    shutil.rmtree(state / "snapshots")
    desk = Desk(tmp_path / "main", state, canaries=[canary])
    event = desk.one(Recommend(user=1, k=2, pins=[(0, 2), (1, 999)]))["event_id"]  # no policy knows item 999
    desk.one(Feedback(event_id=event, item=2, feedback={"like": 1.0}))
    desk.stop(save=save)
    desk = Desk(tmp_path / "canary", state)
    assert desk.opened.notes == []
    codes = desk.engine.state.codes.ids.tolist()
    assert codes[desk.engine.state.positive.argmax()] == 2
    assert set(desk.one(Recommend(user=1, k=5))["items"]) == {1, 3, 4, 5, 6}
    desk.stop()


def test_ids_of_users_are_readable_by_the_owner_only(policy: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    desk = Desk(policy, tmp_path / "state")
    desk.one(Recommend(user=1, k=2))
    desk.stop(save=True)
    os.umask(before)
    files = [file for name in ("snapshots", "events") for file in (tmp_path / "state" / name).rglob("*.*")]
    assert len(files) == 6
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_feedback_on_a_damaged_row_is_a_problem_of_this_one(policy: Path, tmp_path: Path) -> None:
    desk = Desk(policy, tmp_path / "state")
    ids = [desk.one(Recommend(user=user, k=1))["event_id"] for user in range(2)]
    desk.stop()
    desk = Desk(policy, tmp_path / "state")
    (file,) = (tmp_path / "state" / "events").iterdir()
    content = file.read_bytes()
    place = content.index(ids[1].encode())
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    answers = desk.do(*(Feedback(event_id=event_id, feedback={"like": 1.0}) for event_id in ids))
    assert answers[0].body["status"] == "counted"
    assert answers[1].status == 503
    assert str(answers[1]).startswith(f"{file}: damaged at byte ")


def test_requests_during_a_snapshot_are_not_in_it(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file equals, to the bit, the file of a server that was restored from the same rows and had no requests."""
    state, quiet = tmp_path / "state", tmp_path / "quiet"
    desk, rng = Desk(policy, state), np.random.default_rng(0)

    def requests() -> None:
        user, country = int(rng.integers(0, 90)), ("de", "fr")[rng.integers(2)]
        shown = desk.one(Recommend(user=user, k=3, features={"country": country}))
        entries = [ItemFeedback(item=item, feedback={"like": 1.0}) for item in shown["items"]]
        desk.one(FeedbackBatch(event_id=shown["event_id"], items=entries))
        desk.one(Feedback(event_id=f"{desk.engine.log.next}", user=user, item=7, feedback={"watch": 2.0}))

    for _ in range(20):
        requests()
    desk.stop()
    shutil.copytree(state, quiet)
    Desk(policy, quiet).stop(save=True)

    monkeypatch.setattr("prefrec_ray.mdp.frozen.SLICE_BYTES", 64)
    monkeypatch.setattr("prefrec_ray.serving.state.users._USERS", 4)
    desk, slices = Desk(policy, state), [0]

    def take(copy: Callable[[], np.ndarray]) -> np.ndarray:
        slices[0] += 1
        if slices[0] < 200:
            requests()
        return copy()

    Snapshot.from_state(desk.engine.state).write(str(state), take)
    desk.stop()
    assert slices[0] > 100
    files = [file for file in (quiet / "snapshots").rglob("*") if file.is_file()]
    assert len(files) == 5
    for file in files:
        assert (state / "snapshots" / file.relative_to(quiet / "snapshots")).read_bytes() == file.read_bytes(), file
    before = Desk(policy, state)
    assert before.opened.notes == []
    expected = before.states(NOW)
    before.stop()
    shutil.rmtree(state / "snapshots")
    again = Desk(policy, state)
    assert {user: one.tobytes() for user, one in again.states(NOW).items()} == {
        user: one.tobytes() for user, one in expected.items()
    }
    again.stop()


def test_replies_do_not_wait_for_a_snapshot_of_many_users(policy: Path, tmp_path: Path) -> None:
    """The event loop runs other work at least every 50 ms of its processor time; a whole copy would take longer."""
    longest = [0.0]

    async def beat() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            longest[0], before = max(longest[0], now - before), now

    async def act(server: Server) -> None:
        server.state.add_users(list(range(1_000, 151_000)))
        for row in range(0, 150_000, 2):
            server.state.users.see(row, range(20), NOW)
        server.state.add_users([1, 2])  # arrays get room for twice as many, which takes longer
        beating = asyncio.create_task(beat())
        await server.do(Recommend(user=1, k=2))
        limit = time.monotonic() + soon(60)
        while not any(name.isdigit() for name in names(tmp_path / "state")) and time.monotonic() < limit:
            await server.do(Recommend(user=2, k=2))
        beating.cancel()
        assert names(tmp_path / "state")[-1] == f"{2:015d}"

    with_server(policy, tmp_path / "state", act, snapshot_events=2)
    assert longest[0] < 0.05


def test_a_server_with_a_retention_removes_old_events_at_its_start_and_while_it_runs(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without snapshots, which would keep the effect of old events."""
    day, state = 86_400_000, tmp_path / "state"
    now = int(time.time() * 1000)
    desk = Desk(policy, state)
    desk.one(Recommend(user=1, k=2), clock=now - 40 * day)
    shown = desk.one(Recommend(user=2, k=1), clock=now - 31 * day)
    desk.one(Feedback(event_id=shown["event_id"], feedback={}), clock=now - 31 * day)
    desk.one(Recommend(user=3, k=2), clock=now - 5 * day)
    desk.stop(save=True)
    desk = Desk(policy, state, retention_days=35)
    assert (desk.engine.state.users.ids, names(state)) == ([2, 3], [])
    desk.stop()

    monkeypatch.setattr("prefrec_ray.serving.upkeep._DAY", 0.01)
    for module in ("server", "upkeep"):
        monkeypatch.setattr(f"prefrec_ray.serving.{module}.clock", lambda: now)
    seen = []

    async def act(server: Server) -> None:
        limit = time.monotonic() + soon(20)
        monkeypatch.setattr("prefrec_ray.serving.upkeep.clock", lambda: now + 10 * day)
        while server.engine.log.read(1)["kind"] != Kind.SKIPPED and time.monotonic() < limit:
            await asyncio.sleep(0.01)
        seen.append(server.engine.log.read(1)["kind"])
        seen.append((await server.do(Recommend(user=2, k=1))).body["event_id"].partition("-")[2])

    with_server(policy, state, act, retention_days=35)
    assert seen == [Kind.SKIPPED, "5"]
    assert names(state) == []
    desk = Desk(policy, state, retention_days=35)
    assert desk.engine.state.users.ids == [3, 2]
    desk.stop()


def test_a_retention_shorter_than_the_hours_of_feedback_is_refused() -> None:
    with pytest.raises(ValueError, match="retention_days 1 ends before feedback_hours 48; expected at least as long"):
        ServeSettings(retention_days=1, feedback_hours=48)
