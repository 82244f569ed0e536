"""The items of the log: all items that the main arm ever had, for any later policies."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy, with_server

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.serving.requests.bodies import PutItem, PutItems
from prefrec_ray.serving.server import Server
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
                await server.changes.reload()
        assert file.read_bytes() == before
        await server.changes.reload()
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
            for ask in (server.changes.reload, lambda: server.changes.put_items(new)):
                with pytest.raises(Problem, match=rf"items.parquet was not written: {os.strerror(number)}") as caught:
                    await ask()
                assert caught.value.status == status
        assert (await server.changes.reload())["changed"] is False
        assert (await server.changes.put_items(new)) == {"items": 1}
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
    """By the file of items or, without it, by an added item."""
    desk = Desk(policy, tmp_path / "state")
    desk.engine.log.commit([Event(Kind.ITEM, 1, items=[77], embedding=[0.5, 0.5, 0.5])])
    desk.stop()
    if lost:
        (tmp_path / "state" / "items.parquet").unlink()
    replaced(policy, state=replace(STATE, action_dim=5))
    with pytest.raises(UserError, match=r"of 3 numbers; expected 5") as caught:
        Desk(policy, tmp_path / "state")
    assert str(caught.value).startswith("item 77: " if lost else f"{tmp_path / 'state'}/items.parquet: ")


def test_another_width_is_refused_by_a_reload(policy: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        replaced(policy, state=replace(STATE, action_dim=5))
        with pytest.raises(Problem, match="of 3 numbers; expected 5 as in the policy, or another") as caught:
            await server.changes.reload()
        assert caught.value.status == 409

    with_server(policy, tmp_path / "state", act)
