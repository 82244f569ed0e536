"""Items of several policies on one log: the main arm defines the items of the log."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from platform_desk import Desk, make_policy, with_server

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.serving.requests.bodies import PutItem, PutItems, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.web.problems import Problem

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
            await server.changes.reload()
        assert caught.value.status == 409
        assert [one.digest for one in server.state.loaded] == before
        for user in range(9):
            assert (await server.do(Recommend(user=user))).body["items"]
        await server.changes.put_items(PutItems(items=[PutItem(id=40, embedding=NEW)]))
        assert (await server.changes.reload())["changed"]

    with_server(main, tmp_path / "state", act, **arm(tmp_path))
