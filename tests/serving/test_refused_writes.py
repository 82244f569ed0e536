"""A disk that takes no rows for a while: memory equals the log, and `/healthz` reports it."""

import errno
import os
from pathlib import Path

import pytest
from http_server import called, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import Desk, make_policy, with_server
from served import ALL

from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.http import ServerApp
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.web.problems import Problem

NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "policy"
    make_policy(serving=ServingSettings(rest_days=0.0)).save(str(folder))
    return folder


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def command(user: int, kind: str, number: int) -> Recommend | Feedback:
    if kind == "o":
        return Feedback(event_id=f"own {number}", user=user, item=user, feedback={"watch": 0.5})
    return Recommend(user=user, k=2, features={"country": "fr"} if kind == "f" else None)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(), st.lists(st.tuples(st.integers(0, 9), st.sampled_from("rfo")), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_state_equals_the_log_whichever_writes_fail(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[bool, list[tuple[int, str]]]]
) -> None:
    folder = tmp_path_factory.mktemp("state")
    desk = Desk(bundle, folder)
    for number, (fails, wanted) in enumerate(batches):
        clock = NOW + 60_000 * number
        batch = [command(user, kind, number) for user, kind in dict(wanted).items()]
        if not fails:
            desk.do(*batch, clock=clock)
            continue
        users = desk.engine.state.users.ids
        plan = desk.engine.plan(batch, clock)
        assert plan.events
        desk.engine.give_up(plan)
        assert desk.engine.state.users.ids == users
    live, ids = desk.states(NOW + 10**8), desk.engine.state.users.ids
    desk.stop()
    desk = Desk(bundle, folder)
    assert desk.engine.state.users.ids == ids
    assert {user: one.tobytes() for user, one in desk.states(NOW + 10**8).items()} == {
        user: one.tobytes() for user, one in live.items()
    }
    desk.stop()


def test_refused_users_are_gone_and_the_health_tells_until_there_is_room(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(server: Server) -> None:
        app = ServerApp(server, ALL)

        async def health() -> tuple[int, bytes]:
            reply = await called(app, scope_of("GET", "/healthz"), b"")
            return reply.status_code, bytes(reply.body)

        await server.do(Recommend(user=1, k=2))
        assert (await health())[0] == 200
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            patched.setattr(os, "fsync", full)  # of the attempt of `/healthz`
            for user in (2, 3):
                with pytest.raises(Problem, match="nothing was written"):
                    await server.do(Recommend(user=user, k=2, features={"country": "de"}))
            for _ in range(2):
                status, body = await health()
                assert status == 507
                assert b"the log failed: No space left on device; make room" in body
        assert server.state.users.ids == [1]
        status, body = await health()
        assert (status, b'"users":1' in body) == (200, True)
        await server.do(Recommend(user=4, k=2))
        assert server.state.users.ids == [1, 4]

    with_server(bundle, tmp_path / "state", act)
    assert not list((tmp_path / "state").glob("attempt*"))
    desk = Desk(bundle, tmp_path / "state")
    assert desk.engine.state.users.ids == [1, 4]
    desk.stop()


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_log_whose_last_row_cannot_be_read_is_not_healthy(bundle: Path, tmp_path: Path, damage: str) -> None:
    async def act(server: Server) -> None:
        await server.do(Recommend(user=1, k=2))
        (file,) = (tmp_path / "state" / "events").glob("*.arrow")
        whole = file.read_bytes()
        if damage == "flip":
            file.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
        else:
            file.unlink()
        reply = await called(ServerApp(server, ALL), scope_of("GET", "/healthz"), b"")
        assert reply.status_code == 503
        assert str(file).removesuffix(".arrow").encode() in bytes(reply.body)
        file.write_bytes(whole)
        assert (await called(ServerApp(server, ALL), scope_of("GET", "/healthz"), b"")).status_code == 200

    with_server(bundle, tmp_path / "state", act)


def test_an_earlier_row_that_could_not_be_read_keeps_the_health_bad(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path / "state")
    shown = [desk.one(Recommend(user=user, k=1), NOW) for user in range(3)]
    desk.stop()
    desk = Desk(bundle, tmp_path / "state")
    (file,) = (tmp_path / "state" / "events").glob("*.arrow")
    whole, place = file.read_bytes(), file.read_bytes().index(shown[1]["event_id"].encode())
    file.write_bytes(whole[:place] + b"x" + whole[place + 1 :])
    desk.engine.log.check()
    with pytest.raises(Problem, match="damaged at byte"):
        desk.one(Feedback(event_id=shown[1]["event_id"], feedback={}), NOW)
    with pytest.raises(Exception, match="damaged at byte"):
        desk.engine.log.check()
    file.write_bytes(whole)
    desk.engine.log.check()
    desk.stop()
