"""Reports of a server that cannot continue or cannot start."""

import errno
import os
from pathlib import Path

import pytest
from platform_desk import make_policy, with_server

from prefrec_ray.cli.main import run
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.http import routes_of
from prefrec_ray.serving.requests.bodies import Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.shards import called, scope_of
from prefrec_ray.web.problems import Problem


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with 40 items."""
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


@pytest.mark.parametrize(("call", "status"), [("write", 200), ("fsync", 503)])
def test_a_log_that_takes_nothing_any_more_is_not_healthy(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, status: int
) -> None:
    """A failed write may succeed later; after a failed fsync the content of the disk is unknown."""

    async def act(server: Server) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        app = routes_of(server)
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            with pytest.raises(Problem, match="nothing was written"):
                await server.do(Recommend(user=1, k=1))
        assert (await called(app, scope_of("GET", "/healthz"), b"")).status_code == status
        assert server.healthy == (status == 200)
        if server.healthy:
            assert (await server.do(Recommend(user=1, k=1))).body["items"]
        else:
            with pytest.raises(Problem, match="the event log failed before"):
                await server.do(Recommend(user=1, k=1))

    with_server(policy, tmp_path / "state", act)


def test_a_disk_that_is_full_at_the_start_is_one_line(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    command = ["serve", str(policy), "--state", str(tmp_path / "state"), "--port", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(EventLog, "commit", full)
        assert run(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "no space left to write to" in line
    assert not list(tmp_path.glob("*.claim"))
