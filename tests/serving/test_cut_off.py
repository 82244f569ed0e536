"""Clients that go away in the middle of a body: no error of the server's, and nothing is kept."""

import asyncio
from pathlib import Path

import pytest
from platform_desk import make_policy, with_server
from served import TOKEN
from starlette.types import Message, Receive

from prefrec_ray.serving.app import TOKEN as VARIABLE
from prefrec_ray.serving.app import routes_of
from prefrec_ray.serving.asgi import called, scope_of
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.shards import Gateway


def cut_off() -> Receive:
    """Some of a body, and then nobody."""
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
    response = asyncio.run(called(Gateway([])._guarded, scope, cut_off()))
    assert response.status_code == 400
