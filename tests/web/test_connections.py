"""Connections that send nothing, too little or too much, or that are too many, against a small app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from http_server import Running, received, running, statuses

from prefrec_ray.web.run import Limits

SHORT = Limits(head_seconds=0.2, body_seconds=0.2, idle_seconds=0.2, connections=20)  # type: ignore[arg-type]
HEAD = b" HTTP/1.1\r\nhost: a\r\n"


class Held:
    """Requests of /hold, which get replies after `released`."""

    def __init__(self) -> None:
        self.begun, self.released = 0, False

    async def answer(self) -> None:
        self.begun += 1
        while not self.released:
            await asyncio.sleep(0.005)

    def wait(self, begun: int) -> None:
        """Wait until the server is replying to `begun` requests."""
        limit = time.monotonic() + 5
        while self.begun < begun:
            assert time.monotonic() < limit
            time.sleep(0.005)


HELD = Held()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/body reads it, /wait takes .5 s, /pause .01 s, /hold until the test goes on."""
    if scope["type"] == "lifespan":
        return
    content = scope["path"].encode()
    if scope["path"] == "/body":
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            return
    elif scope["path"] in ("/wait", "/pause"):
        await asyncio.sleep(0.5 if scope["path"] == "/wait" else 0.01)
        await receive()
    elif scope["path"] == "/hold":
        await HELD.answer()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setitem(globals(), "HELD", Held())
    return HELD


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(app, getattr(request, "param", SHORT)) as process:
        yield process
    assert process.logged == []


def get(path: str) -> bytes:
    return b"GET " + path.encode() + HEAD + b"\r\n"


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return b"POST " + path.encode() + HEAD + b"content-length: %d\r\n\r\n" % length + body


SLOW = [
    ("nothing", [b""], [408]),
    ("a head, a byte at a time", [bytes([byte]) for byte in get("/" + "x" * 50)], [408]),
    ("blank lines", [b"\r\n"] * 50, [408]),
    ("a body, a byte at a time", [post("/body", b"", 50), *[b"x"] * 50], [408]),
    ("a chunked body that does not end", [b"POST /body" + HEAD + b"transfer-encoding: chunked\r\n\r\n"], [408]),
    ("a body after the answer", [post("/", b"", 50), *[b"x"] * 50], [200]),
    ("an idle connection", [get("/")], [200]),
    ("a second head that does not end", [get("/"), b"GET /"], [200, 408]),
    ("a slow app", [get("/wait")], [200]),
    ("blank lines after an answer", [get("/"), *[b"\r\n"] * 50], [200, 408]),
]


def test_a_client_that_does_not_send_is_closed_in_time(server: Running) -> None:
    def run(parts: list[bytes]) -> tuple[list[int], float]:
        begin = time.monotonic()
        return server.send(*parts, pause=0.05), time.monotonic() - begin

    with ThreadPoolExecutor(len(SLOW)) as pool:  # all at once
        results = list(pool.map(run, [parts for _, parts, _ in SLOW]))
    for (name, _, expected), (found, seconds) in zip(SLOW, results, strict=True):
        assert found == expected, name
        assert 0.15 < seconds < 2, name


def test_a_refusal_is_a_problem_of_one_line(server: Running) -> None:
    with server.connect() as client:
        client.sendall(b"GET /")
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 408 Request Timeout"
    assert b"content-type: application/problem+json\r\n" in head + b"\r\n"
    assert b"connection: close" in head
    assert body.endswith(b'"status": 408, "detail": "the head was not whole after 0.2 seconds"}')


@pytest.mark.parametrize("server", [replace(SHORT, connections=6)], indirect=True)
def test_more_connections_are_refused_and_served_again_later(server: Running, held: Held) -> None:
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        client.sendall(get("/hold"))
    held.wait(6)
    with server.connect() as late:
        assert b"503 Service Unavailable" in (content := received(late))
        assert b"expected at most 6" in content
    held.released = True
    assert [statuses(client) for client in clients] == [[200]] * 6
    assert server.send(get("/")) == [200]
    for client in clients:
        client.close()


UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n\r\n"
SERIES = [
    ("HEAD", [b"HEAD /x" + HEAD + b"\r\n", get("/2")], [200] * 2),
    ("many", [get(f"/{n}") for n in range(10)], [200] * 10),
    ("none after `close`", [b"GET /" + HEAD + b"connection: close\r\n\r\n", get("/2")], [200]),
    ("none after HTTP/1.0", [b"GET / HTTP/1.0\r\n\r\n"] * 2, [200]),
    ("none after an upgrade", [b"GET /" + HEAD + UPGRADE, get("/2")], [200]),
    ("no WebSocket", [b"GET /" + HEAD + UPGRADE.replace(b"h2c", b"websocket")], [200]),
    ("garbage", [get("/"), b"garbage\r\n\r\n", get("/4")], [200, 400]),
    ("a broken body", [b"POST /body" + HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n"], [400]),
    ("a long head", [b"GET /" + HEAD + b"x: " + b"x" * 100_000], [431]),
    ("two at once", [get("/wait") + get("/2")], [200, 200]),
    ("one during the reply", [get("/wait"), get("/2"), get("/3")], [200, 200, 200]),
    ("garbage before the reply", [get("/wait") + b"garbage\r\n\r\n"], [200]),
    ("a part before the reply", [get("/wait") + b"GET /"], [200]),
    ("a long head before the reply", [get("/wait") + b"GET /" + HEAD + b"x: " + b"x" * 100_000], [200]),
]


def test_requests_of_a_connection_are_replied_to_in_order(server: Running) -> None:
    with ThreadPoolExecutor(len(SERIES)) as pool:
        found = list(pool.map(lambda one: server.send(*one[1], pause=0.05), SERIES))
    for (name, _, expected), statuses_ in zip(SERIES, found, strict=True):
        assert statuses_ == expected, name
    with server.connect() as client:
        client.sendall(b"GET /" + HEAD + UPGRADE)
        assert b"\r\nconnection: close\r\n" in received(client)


def test_a_client_that_goes_away_leaves_nothing_in_the_log(server: Running) -> None:
    for number in range(40):
        with server.connect() as client:
            client.sendall(get("/pause" if number % 2 else "/") * 20 + post("/body", b"1", 3))
            time.sleep(0.001 * (number % 4))
    limit = time.monotonic() + 5
    while server.send(b"GET /" + HEAD + b"connection: close\r\n\r\n") != [200]:
        assert time.monotonic() < limit


def test_a_client_that_goes_away_during_a_reply_leaves_nothing_in_the_log(server: Running) -> None:
    """Further requests wait for this reply."""
    with server.connect() as client:
        client.sendall(get("/") + get("/wait") * 2)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    time.sleep(0.7)


def test_a_client_that_does_not_end_delays_the_end_of_the_server_by_seconds_only() -> None:
    with running(app, Limits()) as server:
        lost = server.connect()
        lost.sendall(post("/body", b"1", 2))
        time.sleep(0.1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 4
    assert (statuses(lost), server.logged) == ([408], [])
    lost.close()
