"""Arms of a loop: a server of the alias `current` also serves the canary, and the incumbent before any promotion."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_desk import Desk, incumbent_settings, make_policy, with_server

from prefrec_ray.errors import UserError
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.settings import parse
from prefrec_ray.storage.alias import point
from prefrec_ray.web.problems import Problem

USERS = range(2000)


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """The alias of a loop whose nights 1 to 3 have policies."""
    for night in (1, 2, 3):
        make_policy(seed=night).save(str(tmp_path / f"nights/{night}"))
    return tmp_path / "current"


def released(alias: Path, current: int | None, canary: int | None = None, share: float = 0.1) -> None:
    """Write the alias as the loop does."""
    about: dict[str, Any] = {"canary": None}
    if canary is not None:
        about["canary"] = {"night": canary, "target": f"nights/{canary}", "share": share, "began": 0}
    point(str(alias), "" if current is None else f"nights/{current}", **about)


def arms(server: Server) -> np.ndarray:
    """Return the arm of every user."""
    names = [one.arm for one in server.state.loaded]
    return np.array(names)[server.state.users.arm[: len(server.state.users)]]


def test_a_reload_begins_and_ends_canaries_with_other_users_each(loop: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        await asyncio.gather(*(server.do(Recommend(user=user, k=1)) for user in USERS))
        assert set(arms(server)) == {"main"}
        shown = []
        for night in (2, 3):
            released(loop, 1, night)
            assert set((await server.reload())["policies"]) == {"main", f"night-{night}"}
            own = arms(server) == f"night-{night}"
            assert 150 < own.sum() < 250
            reply = await server.do(Recommend(user=int(np.flatnonzero(own)[0]), k=1))
            assert reply.body["arm"] == f"night-{night}"
            shown.append(own)
        assert (shown[0] & shown[1]).sum() < 50  # independent: 20 expected
        released(loop, 1, 3, share=0.2)
        await server.reload()
        wider = arms(server) == "night-3"
        assert 330 < wider.sum() < 470
        assert wider[shown[1]].all()
        text = server.metrics.text(server.state).decode()
        assert 'prefrec_serve_arm_share{arm="night-3"' in text
        released(loop, 3)
        await server.reload()
        assert set(arms(server)) == {"main"}
        assert "night-3" not in server.metrics.text(server.state).decode().split("serve_items{", 1)[1]

    released(loop, 1)
    with_server(loop, tmp_path / "state", act)


def test_a_canary_survives_a_restart(loop: Path, tmp_path: Path) -> None:
    released(loop, 1, 2)
    replies = []
    for _ in range(2):
        desk = Desk(loop, tmp_path / "state")
        replies.append([reply.body["arm"] for reply in desk.do(*(Recommend(user=user, k=1) for user in range(100)))])
        desk.stop()
    assert replies[0] == replies[1]
    assert set(replies[0]) == {"main", "night-2"}


def test_before_a_promotion_the_incumbent_serves_the_other_users(loop: Path, tmp_path: Path) -> None:
    released(loop, None, 2, share=0.5)
    desk = Desk(loop, tmp_path / "state")
    replies = desk.do(*(Recommend(user=user, k=2, incumbent=[7, 3, 5]) for user in range(40)))
    by_arm = {arm: [reply.body for reply in replies if reply.body["arm"] == arm] for arm in ("main", "night-2")}
    assert all(len(bodies) > 5 for bodies in by_arm.values())
    assert all(body["items"] == [7, 3] and body["propensities"] == [None, None] for body in by_arm["main"])
    assert {body["policy"] for body in by_arm["main"]} == {"incumbent"}
    assert any(body["items"] != [7, 3] for body in by_arm["night-2"])
    assert all(min(body["propensities"]) > 0 for body in by_arm["night-2"])
    shown = by_arm["main"][0]
    (counted,) = desk.do(Feedback(event_id=shown["event_id"], item=3, feedback={"like": 1}))
    assert counted.body["status"] == "counted"
    bodies = [Recommend(user=0, incumbent=incumbent) for incumbent in (None, ["seven"], [4, 2, 4])]
    (refused, other, twice) = desk.do(*bodies)
    assert isinstance(refused, Problem)
    assert refused.detail == "incumbent: missing; expected items: no policy of the main arm is promoted yet"
    assert isinstance(other, Problem)
    assert other.detail.startswith("incumbent: found 'seven'; expected a whole number")
    assert isinstance(twice, Problem)
    assert twice.detail == "incumbent: found item 4 twice; expected each item once"
    desk.stop()


def test_a_platform_without_a_policy_is_logged_until_its_first_canary(loop: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        shown = [await server.do(Recommend(user=user, k=2, incumbent=[7, 3, 5])) for user in range(40)]
        assert all(reply.body["items"] == [7, 3] for reply in shown)
        feedback = Feedback(event_id=shown[0].body["event_id"], item=7, feedback={"like": 1, "watch": 0.5})
        assert (await server.do(feedback)).outcomes == ["counted"]
        assert not (await server.reload())["changed"]
        released(loop, None, 2, share=0.5)
        assert set((await server.reload())["policies"]) == {"main", "night-2"}
        assert {*arms(server)} == {"main", "night-2"}
        row = server.state.users.find(0)
        assert row is not None
        assert server.state.users.last(row) > 0

    with_server(loop, tmp_path / "state", act, incumbent=incumbent_settings(tmp_path, list(range(40))))


def test_an_incumbent_with_items_that_cannot_be_read_is_one_line(loop: Path, tmp_path: Path) -> None:
    settings = incumbent_settings(tmp_path, ["007", "8"])
    desk = Desk(loop, tmp_path / "state", incumbent=settings)
    assert desk.engine.state.codes.ids.tolist() == ["007", "8"]  # leading zeros: text
    desk.stop()
    settings["items"]["embedding"] = ["vector"]
    with pytest.raises(UserError, match=r"items\.csv: column 'vector' is missing; found id, e0, e1, e2"):
        Desk(loop, tmp_path / "other", incumbent=settings)
    del settings["items"]["embedding"]
    settings["items"]["title"] = "id"
    with pytest.raises(UserError, match=r"key 'incumbent': items: expected embedding or features"):
        parse(ServeSettings, {"incumbent": settings}, "serve")


def test_a_loop_without_a_policy_or_with_other_canaries_is_one_line(loop: Path, tmp_path: Path) -> None:
    released(loop, None)
    with pytest.raises(
        UserError, match=r"current: points to no policy yet; expected a canary or a promoted policy, or"
    ):
        Desk(loop, tmp_path / "state")
    released(loop, 1, 2)
    other = {"name": "own", "policy": str(tmp_path / "nights/3"), "share": 0.1}
    with pytest.raises(UserError, match=r"found a canary of the loop and serve\.canaries; expected one of them"):
        Desk(loop, tmp_path / "state", canaries=[other])
