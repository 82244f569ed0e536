"""The Ray of a command: its own unless an address is given; errors for an address without Ray."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import ray
from ray._private import services
from ray._private.authentication import authentication_token_setup
from ray.core.generated import gcs_service_pb2_grpc as gcs
from ray.core.generated.gcs_service_pb2 import CheckAliveReply

from prefrec_ray.errors import UserError
from prefrec_ray.runtime import start, start_ray


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a process without Ray, Ray's variables and a token; restore them afterwards."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    loader = SimpleNamespace(reset_cache=lambda: None, has_token=lambda *rest: False)
    monkeypatch.setattr("ray._raylet.AuthenticationTokenLoader.instance", lambda: loader)
    monkeypatch.setattr(authentication_token_setup, "maybe_enable_token_auth_if_token_available", lambda **rest: False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the arguments of `ray.init`."""
    calls_made: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **arguments: calls_made.append(arguments))
    return calls_made


@contextmanager
def head(version: str = ray.__version__, token: str | None = None) -> Iterator[str]:
    """The one answer that a cluster's head gives before all others, at an address of its own."""

    class Head(gcs.NodeInfoGcsServiceServicer):
        def CheckAlive(self, request: Any, context: grpc.ServicerContext) -> CheckAliveReply:
            if token is not None and dict(context.invocation_metadata()).get("authorization") != f"Bearer {token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return CheckAliveReply(ray_version=version)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    gcs.add_NodeInfoGcsServiceServicer_to_server(Head(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


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
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(start, "knock", lambda place: None)
    monkeypatch.setattr(start, "_nodes", lambda place: 3)
    start_ray()
    assert [call["address"] for call in calls] == ["10.0.0.1:6379"]
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
    assert time.monotonic() - started < 20
    return str(caught.value)


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a listener, as from a stale file, and a port that accepts connections and never replies."""
    monkeypatch.setattr(start, "PATIENCE", 1.0)
    with socket.socket() as unused, socket.create_server(("0.0.0.0", 0)) as silent:
        unused.bind(("127.0.0.1", 0))
        for one in (unused, silent):
            assert "no reply of a Ray cluster" in refused(f"127.0.0.1:{one.getsockname()[1]}", monkeypatch)
    assert "no reply of a Ray cluster" in refused("no-such-host.invalid:6379", monkeypatch)


def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'http://127.0.0.1:8265': a URL; expected HOST:PORT" in refused("http://127.0.0.1:8265", monkeypatch)
    assert "'nonsense': no address" in refused("nonsense", monkeypatch)
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: set())
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    assert "'auto': no cluster runs on this machine" in refused("auto", monkeypatch)


def test_a_head_that_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PATIENCE", 5.0)
    monkeypatch.setattr(services, "resolve_ip_for_localhost", lambda host: host)
    with head(version="2.9.0") as address:
        assert f"the cluster runs Ray 2.9.0, this machine {ray.__version__}" in refused(address, monkeypatch)
    with head(token="secret") as address:
        assert "the cluster requires its token" in refused(address, monkeypatch)
    monkeypatch.setattr(start, "PATIENCE", 1.0)
    node = SimpleNamespace(state=1, ALIVE=1)
    nodes = {ray.NodeID.from_random(): node}
    client = SimpleNamespace(get_all_node_info=lambda timeout: nodes)
    monkeypatch.setattr("ray._raylet.GcsClient", lambda address: client)
    with head() as address:
        assert "no node of this cluster runs on this machine" in refused(address, monkeypatch)
