"""The Ray of a command: its own unless an address is given; errors for an address without Ray."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from patience import soon

from prefrec_ray.errors import UserError
from prefrec_ray.runtime import check_fits, start, start_ray


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a process without Ray, Ray's variables and a token; restore them afterwards."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the arguments of `ray.init`."""
    calls_made: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **arguments: calls_made.append(arguments))
    return calls_made


def ray_of_a_trial(body: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Ray in other processes by a module whose `init` has this body."""
    (folder / "ray.py").write_text(f"def init(**arguments):\n    {body}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_without_an_address_ray_is_ones_own(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cluster `/tmp/ray/ray_current_cluster` names; and its token lies in no file."""
    start_ray(num_cpus=1)
    assert [(call["address"], call["num_cpus"]) for call in calls] == [("local", 1)]
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_token_that_is_given_is_kept(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/some/token")
    start_ray()
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_cluster_that_is_joined_is_named(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    ray_of_a_trial("assert arguments['address'] == 'auto'", tmp_path, monkeypatch)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}] * 3 + [{"Alive": False}])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    start_ray()
    assert [call["address"] for call in calls] == ["auto"]
    assert capsys.readouterr().err == "prefrec: joined the Ray cluster at 10.0.0.1:6379, 3 nodes\n"


def test_local_is_no_cluster(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    start_ray()
    assert [call["address"] for call in calls] == ["local"]


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line, which has to come within 20 s."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        start_ray()
    assert time.monotonic() - started < soon(20)
    return str(caught.value)


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a listener, as from a stale file, and a port that accepts connections and never replies."""
    monkeypatch.setattr(start, "PATIENCE", 1.0)
    with socket.socket() as unused, socket.create_server(("0.0.0.0", 0)) as silent:
        unused.bind(("127.0.0.1", 0))
        for one in (unused, silent):
            assert "no reply of a Ray cluster" in refused(f"127.0.0.1:{one.getsockname()[1]}", monkeypatch)
    for address in ("no-such-host.invalid:6379", "a..b:6379", "127.0.0.1:99999"):
        assert "no reply of a Ray cluster: " in refused(address, monkeypatch)


def test_a_cluster_that_cannot_be_joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray's own reason is in the line, and the cause of an error if it has one."""
    for body, reason in (
        ("raise RuntimeError('Version mismatch:\\n    Ray: 2.9.0')", "Version mismatch: Ray: 2.9.0; expected"),
        ("raise ConnectionError('Failed to connect') from ValueError('No token. See docs')", "No token; expected"),
        ("import os; os.abort()", "Ray's process ended with -6; expected"),
    ):
        ray_of_a_trial(body, tmp_path, monkeypatch)
        assert f"RAY_ADDRESS auto: {reason}" in refused("auto", monkeypatch)
    monkeypatch.setattr(start, "PATIENCE", 1.0)
    ray_of_a_trial("import time; time.sleep(9)", tmp_path, monkeypatch)
    assert "no reply of a Ray cluster in 1 s" in refused("auto", monkeypatch)


@pytest.mark.ray
def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "RAY_ADDRESS nonsense: Invalid address format: nonsense; expected HOST:PORT" in refused(
        "nonsense", monkeypatch
    )


def test_missing_resources_are_awaited_only_of_a_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    check_fits({"CPU": 2}, "the run", "num_learners")
    with pytest.raises(UserError, match=r"the run asks for 1 GPU, the cluster has 0; expected less \(num_learners\)"):
        check_fits({"GPU": 1}, "the run", "num_learners")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check_fits({"GPU": 1}, "the run", "num_learners")
    error = capsys.readouterr().err
    assert error.startswith("prefrec: the run asks for 1 GPU, the cluster has 0; waiting for its autoscaler")
    assert error.endswith("ask for less (num_learners)\n")
