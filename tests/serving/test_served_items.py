"""Items and policies of a server: added and withdrawn items, items of arms, and the items of the log."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy, with_server
from state_definitions import changed

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import KindNames
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.serving.folder.opened import save_items
from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItem, PutItems, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.policies import Codes, Shelf, load_policies
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.storage.alias import point
from prefrec_ray.web.problems import Problem


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with 40 items."""
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


def turned(items: int) -> ItemTable:
    """The first of them, each with another embedding."""
    table = make_policy(items=items).items
    return ItemTable(table.ids, -table.embeddings)


def replaced(policy: Path, state: StateDefinition = STATE, **changes: Any) -> None:
    """Another bundle in its place."""
    shutil.rmtree(policy)
    replace(make_policy(state=state), **changes).save(str(policy))


def check_union(state: Path) -> None:
    """Check for the 20 items of the newer policy and the other items of the older policy."""
    stored, old = ItemTable.load(str(state / "items.parquet")), make_policy().items
    assert sorted(stored.ids.tolist()) == list(range(40))
    rows = stored.find(old.ids)
    np.testing.assert_array_equal(stored.embeddings[rows[:20]], -old.embeddings[:20])
    np.testing.assert_array_equal(stored.embeddings[rows[20:]], old.embeddings[20:])


def test_items_of_an_older_policy_stay(policy: Path, tmp_path: Path) -> None:
    Desk(policy, tmp_path / "state").stop()
    replaced(policy, items=turned(20))
    for _ in range(2):
        Desk(policy, tmp_path / "state").stop()
        check_union(tmp_path / "state")


def test_equal_items_are_not_written_again(policy: Path, tmp_path: Path) -> None:
    desk = Desk(policy, tmp_path / "state")
    file, table = tmp_path / "state" / "items.parquet", desk.engine.state.shelves[0].catalogue
    before = file.stat().st_ino  # a file that is written is a new one
    save_items(str(tmp_path / "state"), table)
    assert file.stat().st_ino == before
    save_items(str(tmp_path / "state"), ItemTable(table.ids, -table.embeddings))
    assert file.stat().st_ino != before
    np.testing.assert_array_equal(ItemTable.load(str(file)).embeddings, -table.embeddings)
    desk.stop()


def test_a_reload_writes_items_once_it_counts(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def act(server: Server) -> None:
        file = tmp_path / "state" / "items.parquet"
        before = file.read_bytes()
        replaced(policy, items=turned(20))
        with monkeypatch.context() as patched:
            patched.setattr(server.engine.log, "commit", full)
            with pytest.raises(Problem, match="No space left"):
                await server.reload()
        assert file.read_bytes() == before
        await server.reload()
        check_union(tmp_path / "state")

    with_server(policy, tmp_path / "state", act)


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EIO, 503)])
def test_items_that_cannot_be_written_are_a_problem_and_written_when_asked_again(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    async def act(server: Server) -> None:
        replaced(policy, items=turned(20))
        new = PutItems(items=[PutItem(id=77, embedding=[0.5, 0.5, 0.5])])
        with monkeypatch.context() as patched:
            patched.setattr(storage, "write_bytes", full)
            for ask in (server.reload, lambda: server.put_items(new)):
                with pytest.raises(Problem, match=rf"items.parquet was not written: {os.strerror(number)}") as caught:
                    await ask()
                assert caught.value.status == status
        assert (await server.reload())["changed"] is False
        assert (await server.put_items(new)) == {"items": 1}
        stored = ItemTable.load(str(tmp_path / "state" / "items.parquet"))
        assert sorted(stored.ids.tolist()) == [*range(40), 77]

    with_server(policy, tmp_path / "state", act)


def test_a_flipped_bit_in_an_embedding_is_refused(policy: Path, tmp_path: Path) -> None:
    """And is not another embedding, from which the next policy would learn."""
    Desk(policy, tmp_path / "state").stop()
    file = tmp_path / "state" / "items.parquet"
    content, embeddings = file.read_bytes(), make_policy().items.embeddings
    place = content.index(embeddings[20:22].tobytes())
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match=r"items\.parquet: damaged"):
        Desk(policy, tmp_path / "state")


@pytest.mark.parametrize("lost", [False, True])
def test_another_width_is_refused_at_the_start(policy: Path, tmp_path: Path, lost: bool) -> None:
    """The file of items or, if it is missing, an added item has another width."""
    desk = Desk(policy, tmp_path / "state")
    desk.engine.log.commit([Event(Kind.ITEM, 1, items=[77], embedding=[0.5, 0.5, 0.5])])
    desk.stop()
    if lost:
        (tmp_path / "state" / "items.parquet").unlink()
    replaced(policy, state=changed(STATE, action_dim=5))
    with pytest.raises(UserError, match=r"of 3 numbers; expected 5") as caught:
        Desk(policy, tmp_path / "state")
    assert str(caught.value).startswith("item 77: " if lost else f"{tmp_path / 'state'}/items.parquet: ")


def test_another_width_is_refused_by_a_reload(policy: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        replaced(policy, state=changed(STATE, action_dim=5))
        with pytest.raises(Problem, match="of 3 numbers; expected 5 as in the policy, or another") as caught:
            await server.reload()
        assert caught.value.status == 409

    with_server(policy, tmp_path / "state", act)


MANY = range(1000, 3000)


@pytest.fixture(params=[False, True])
def many_policy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A policy with 40 items, with integer ids and with text ids."""
    make_policy(text=request.param).save(str(tmp_path / "policy"))
    return tmp_path / "policy"


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count copies of arrays as long as the catalogue."""
    counter: Counter[str] = Counter()
    for of, name in ((Shelf, "widen"), (Shelf, "withdraw"), (Codes, "add")):

        def counted(self: object, *arguments: object, call: object = getattr(of, name), name: str = name) -> object:
            counter[name] += 1
            return call(self, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(of, name, counted)
    return counter


def test_they_come_and_go_at_once(many_policy: Path, tmp_path: Path, copies: Counter[str]) -> None:
    async def act(server: Server) -> None:
        whole = server.state.codes.whole
        ids = [n if whole else f"new {n}" for n in MANY]
        copies.clear()
        await server.put_items(PutItems(items=[PutItem(id=n, embedding=[0.1, 0.2, 0.3]) for n in ids]))
        assert len(server.state.shelves[0].policy.items) == 40 + len(ids)
        assert await server.delete_items(DeleteItems(ids=[*ids, *ids[:5]])) == {"items": len(ids), "unknown": 0}
        assert max(copies.values()) <= 4
        assert len(server.state.shelves[0].policy.items) == 40
        assert len((await server.do(Recommend(user=1, k=64))).body["items"]) == 40
        codes = server.state.codes
        assert len(codes) == len(codes.ids) == 40 + len(ids)
        np.testing.assert_array_equal(codes.find(codes.ids), np.arange(len(codes)))

    with_server(many_policy, tmp_path / "state", act)


@pytest.mark.parametrize("save", [False, True])
def test_they_are_there_after_a_restart(tmp_path: Path, save: bool) -> None:
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    desk.engine.log.commit([Event(Kind.ITEM, 1, items=[n], embedding=[0.1, 0.2, 0.3]) for n in MANY])
    desk.engine.log.commit([Event(Kind.WITHDRAWN, 1, items=[n]) for n in MANY[1:]])
    for _ in range(2):
        desk.stop()
        desk = Desk(tmp_path / "policy", tmp_path / "state")
        assert desk.engine.state.shelves[0].policy.items.ids.tolist() == [*range(40), MANY[0]]
        desk.stop(save)
        desk = Desk(tmp_path / "policy", tmp_path / "state")
        assert desk.opened.notes == []
        assert desk.engine.state.codes.ids.tolist() == [*range(40), *MANY]


@pytest.mark.parametrize("save", [False, True])
def test_kinds_of_recent_impressions_count_before_and_after_a_restart(tmp_path: Path, save: bool) -> None:
    """Items 0, 4, 8 and so on are of one kind; so is an added item near item 0. A withdrawn item changes no kind.

    Three impressions of the first kind count like three items of each other kind on the page.
    """
    policy = make_policy(
        serving=ServingSettings(temperature=1.0, variety=0.0, repetition=50.0, repetition_window=20, rest_days=0.0)
    )
    kinds = (np.arange(40)[:, None] % 4).astype(np.int32)
    replace(policy, items=replace(policy.items, kind_codes=kinds)).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    near = policy.items.embeddings[0].astype(float).tolist()
    desk.engine.log.commit([Event(Kind.ITEM, 1, items=[40], embedding=near)])
    desk.engine.log.commit([Event(Kind.WITHDRAWN, 1, items=[3])])
    desk.stop()
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    for number in range(3):
        feedback = {"like": 0.0, "watch": 0.5}
        desk.one(Feedback(user="anna", item=8, feedback=feedback, event_id=f"own-{number}"))
    desk.stop(save)
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    items = desk.one(Recommend(user="anna", k=9))["items"]
    assert not {item for item in items if item % 4 == 0}
    assert 3 not in items
    others = desk.one(Recommend(user="ben", k=9))["items"]
    assert {item for item in others if item % 4 == 0}


NEW = [0.5, 0.25, -1.0]


@pytest.fixture
def main(tmp_path: Path) -> Path:
    make_policy().save(str(tmp_path / "main"))
    return tmp_path / "main"


def arm(tmp_path: Path, **policy: Any) -> dict[str, Any]:
    """Settings with one more arm, called x."""
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    make_policy(seed=1, **policy).save(str(tmp_path / "x"))
    return {"canaries": [{"name": "x", "policy": str(tmp_path / "x"), "share": 0.5}]}


def test_an_arm_with_items_that_the_main_one_lacks_does_not_start(main: Path, tmp_path: Path) -> None:
    for _ in range(2):  # in a new folder, and in an existing one
        with pytest.raises(UserError, match=r"^arm 'x': found item 40; expected only items of the main policy"):
            Desk(main, tmp_path / "state", **arm(tmp_path, items=42))
        Desk(main, tmp_path / "state", **arm(tmp_path, items=30)).stop()


def test_items_that_were_put_are_those_of_the_main_arm_too(main: Path, tmp_path: Path) -> None:
    """From the log, and from a snapshot; also once they were withdrawn."""
    desk = Desk(main, tmp_path / "state")
    desk.engine.log.commit([Event(Kind.ITEM, 1, items=[n], embedding=NEW) for n in (40, 41)])
    desk.engine.log.commit([Event(Kind.WITHDRAWN, 1, items=[41])])
    desk.stop()
    for save in (True, False):
        desk = Desk(main, tmp_path / "state", **arm(tmp_path, items=42))
        assert len(desk.one(Recommend(user=int(save), k=64))["items"]) == 41
        desk.stop(save)


def test_a_reload_with_such_an_arm_is_refused_and_the_old_policies_go_on(main: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        before = [one.digest for one in server.state.loaded]
        arm(tmp_path, items=41)
        with pytest.raises(Problem, match=r"^arm 'x': found item 40; expected only items of the main policy") as caught:
            await server.reload()
        assert caught.value.status == 409
        assert [one.digest for one in server.state.loaded] == before
        for user in range(9):
            assert (await server.do(Recommend(user=user))).body["items"]
        await server.put_items(PutItems(items=[PutItem(id=40, embedding=NEW)]))
        assert (await server.reload())["changed"]

    with_server(main, tmp_path / "state", act, **arm(tmp_path))


def test_it_is_followed_anew_each_time(tmp_path: Path) -> None:
    digests = {}
    for name, seed in (("a", 0), ("b", 1)):
        make_policy(seed).save(f"{tmp_path}/{name}")
        point(f"{tmp_path}/current", name)
        (loaded,) = load_policies(f"{tmp_path}/current", ServeSettings())
        (plain,) = load_policies(f"{tmp_path}/{name}", ServeSettings())
        assert loaded.digest == plain.digest
        digests[name] = loaded.digest
    assert len(set(digests.values())) == 2


def test_a_policy_is_never_put_together_from_two(tmp_path: Path) -> None:
    """Two policies of other widths: a mixture would not load."""
    for name, items in (("a", 40), ("b", 41)):
        make_policy(items, items=items).save(f"{tmp_path}/{name}")
    policies = {items: make_policy(items, items=items) for items in (40, 41)}
    point(f"{tmp_path}/current", "a")
    done = threading.Event()

    def swap() -> None:
        turn = 0
        while not done.is_set():
            point(f"{tmp_path}/current", "ab"[turn := 1 - turn])

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(40):
            loaded = Policy.load(f"{tmp_path}/current")
            mean = policies[len(loaded.items)].normaliser.mean
            assert (loaded.normaliser.mean == mean).all()
    finally:
        done.set()
        swapper.join()


def make_topics(**changes: Any) -> Policy:
    """The same items, with topics in turn: news, games, music, food."""
    policy = make_policy(**changes)
    codes = np.stack([np.zeros(len(policy.items), np.int32), np.arange(len(policy.items)) % 4], axis=1)
    names = KindNames("cluster", {"0": 0}), KindNames("topic", {"news": 0, "games": 1, "music": 2, "food": 3})
    return replace(policy, items=replace(policy.items, kind_codes=codes, kind_names=names))


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_an_item_without_an_embedding_gets_one_from_its_categories(tmp_path: Path, text: bool, save: bool) -> None:
    """And its categories are known: requests that block them exclude it, also after a restart and a reload."""
    policy = make_topics(text=text)
    policy.save(str(tmp_path / "policy"))
    music, other = ("new", "plain") if text else (70, 71)
    mean = policy.items.embeddings[2::4].mean(axis=0)

    def check(state: ServedState) -> None:
        items = state.shelves[0].policy.items
        rows = items.rows(state.codes.array([music, other]))
        np.testing.assert_allclose(items.embeddings[rows], [mean, [0.5, 0.0, -0.5]], atol=1e-6)
        assert items.kind("topic").codes[rows].tolist() == [2, -1]
        out = state.shelves[0].excluded(np.array([-1]), {"topic": ["music"]})
        assert sorted(out) == sorted([*range(2, 40, 4), rows[0]])

    async def act(server: Server) -> None:
        new = [PutItem(id=music, categories={"topic": "music"}), PutItem(id=other, embedding=[0.5, 0.0, -0.5])]
        for _ in range(2):  # the second time they are known
            assert await server.put_items(PutItems(items=new)) == {"items": 2}
            check(server.state)
        make_topics(seed=1, text=text).save(str(tmp_path / "next"))
        shutil.rmtree(tmp_path / "policy")
        (tmp_path / "next").rename(tmp_path / "policy")
        assert (await server.reload())["changed"]
        check(server.state)

    with_server(tmp_path / "policy", tmp_path / "state", act)
    if not save:
        shutil.rmtree(tmp_path / "state" / "snapshots")
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    check(desk.engine.state)
    desk.stop()


@pytest.mark.parametrize(
    ("item", "status", "message"),
    [
        ({}, 422, "item 70: found no embedding, and no category of a known item; expected one of both"),
        ({"categories": {"topic": "art"}}, 422, "item 70: found no embedding, and no category of a known item"),
        ({"categories": {"mood": "calm"}}, 422, "item 70: items: found kind 'mood'; expected one of cluster, topic"),
        ({"embedding": [0.5]}, 409, "item 70: found an embedding of 1 numbers; expected 3"),
    ],
)
def test_an_item_without_a_place_is_refused(tmp_path: Path, item: dict[str, Any], status: int, message: str) -> None:
    make_topics().save(str(tmp_path / "policy"))

    async def act(server: Server) -> None:
        before = server.state.next
        with pytest.raises(Problem, match=message) as caught:
            await server.put_items(PutItems(items=[PutItem(id=71, embedding=[0, 0, 0]), PutItem(id=70, **item)]))
        assert caught.value.status == status
        assert (server.state.next, server.state.put) == (before, {})

    with_server(tmp_path / "policy", tmp_path / "state", act)
