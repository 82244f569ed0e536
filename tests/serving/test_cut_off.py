"""Clients that go away in the middle of a body: no error of the server's, nothing is kept, nothing waits for them."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from platform_desk import make_policy, with_server
from served import TOKEN, Process
from starlette.requests import Request
from starlette.types import Message, Receive

from prefrec_ray.serving.http import TOKEN as VARIABLE
from prefrec_ray.serving.http import routes_of
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.shards import Gateway, called, scope_of


def cut_off() -> Receive:
    """Return a part of a body, then a disconnect."""
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"user": 1', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    return receive


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/recommend"), ("POST", "/feedback"), ("PUT", "/items"), ("DELETE", "/items")]
)
def test_a_server_counts_it_as_a_bad_request(tmp_path: Path, method: str, path: str) -> None:
    make_policy().save(str(tmp_path / "policy"))

    async def act(server: Server) -> None:
        before = server.state.next
        response = await called(routes_of(server), scope_of(method, path), cut_off())
        assert (response.status_code, server.state.next) == (400, before)
        assert b"the body ended before it was whole" in response.body

    with_server(tmp_path / "policy", tmp_path / "state", act)


def test_a_gateway_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    scope = scope_of("POST", "/recommend")
    scope["headers"] += [(b"authorization", f"Bearer {TOKEN}".encode())]
    response = asyncio.run(Gateway([])(Request(scope, cut_off())))
    assert response.status_code == 400


def test_a_gateway_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    scope = scope_of("POST", "/recommend")
    scope["headers"] += [(b"authorization", f"Bearer {TOKEN}".encode())]

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    response = asyncio.run(Gateway([], 0.05)(Request(scope, receive)))
    assert response.status_code == 408
    assert b"the body was not whole after 0.05 seconds" in response.body


def test_one_who_never_ends_a_body_does_not_keep_a_server_from_its_end(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    process = Process(tmp_path / "policy", tmp_path / "state")
    process.client().post("/recommend", user=1, k=1)
    head = f"POST /recommend HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", process.port)) as lost:
        lost.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
        time.sleep(0.3)
        try:
            begin = time.monotonic()
            process.process.terminate()
            process.process.wait(20)
            assert time.monotonic() - begin > 1  # the rest of the body may come
        finally:
            process.kill()
    assert "Traceback" not in "".join(process.output)
    (snapshot,) = (tmp_path / "state" / "snapshots").iterdir()
    assert int(snapshot.name) == 2
