"""Thousands of items in one request are added or removed at once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from platform_desk import Desk, make_policy, with_server

from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.serving.requests.bodies import DeleteItems, PutItem, PutItems, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.state.shelf import Codes, Shelf

MANY = range(1000, 3000)


@pytest.fixture(params=[False, True])
def policy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
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


def test_they_come_and_go_at_once(policy: Path, tmp_path: Path, copies: Counter[str]) -> None:
    async def act(server: Server) -> None:
        whole = server.state.codes.whole
        ids = [n if whole else f"new {n}" for n in MANY]
        copies.clear()
        await server.changes.put_items(PutItems(items=[PutItem(id=n, embedding=[0.1, 0.2, 0.3]) for n in ids]))
        assert len(server.state.shelves[0].policy.items) == 40 + len(ids)
        assert await server.changes.delete_items(DeleteItems(ids=[*ids, *ids[:5]])) == {"items": len(ids), "unknown": 5}
        assert max(copies.values()) <= 4
        assert len(server.state.shelves[0].policy.items) == 40
        assert len((await server.do(Recommend(user=1, k=64))).body["items"]) == 40
        codes = server.state.codes
        assert len(codes) == len(codes.ids) == 40 + len(ids)
        np.testing.assert_array_equal(codes.find(codes.ids), np.arange(len(codes)))

    with_server(policy, tmp_path / "state", act)


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
