"""Thousands of malformed requests: no error of the server's, no traceback, and it answers as before."""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_server import Running, running
from platform_desk import make_policy
from served import ALL, TOKEN, Client

from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.http import ServerApp
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.run import Limits

SHORT = Limits(head_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    make_policy(items=300).save(str(tmp_path / "policy"))
    opened = Opened(str(tmp_path / "policy"), str(tmp_path / "state"), ServeSettings())
    with running(ServerApp(Server(opened), ALL), getattr(request, "param", Limits())) as process:
        yield process
    assert process.logged == []


def check_alive(server: Running) -> None:
    client = Client(server.port)
    assert client.ask("GET", "/healthz")[0] == 200
    assert client.post("/recommend", user=12, k=1)["items"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [20_000])
def test_malformed_bodies(server: Running, count: int) -> None:
    """JSON of wrong values, broken JSON, wrong headers: an answer below 500 to each, and memory does not grow."""
    rng = random.Random(0)
    values = [None, True, -1, 0, 1, 10**30, 1.5, -1e308, "", "a", "\0", "\ud800", "é" * 300, [], [[]], {}, {"a": 1}]
    names = ["user", "k", "exclude", "timestamp", "features", "event_id", "item", "feedback", "dwell_ms", "items"]
    good = {"user": 11, "k": 3, "event_id": "f", "item": 5, "feedback": {"like": 1}, "ids": [10**7]}
    headers = [{"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}] * 8
    headers += [{"authorization": f"Bearer {TOKEN}"}, {"content-type": "application/json"}, {}]
    paths = ["/recommend", "/feedback", "/items", "/reload", "/metrics", "/nope", "//", "/%00", "/recommend/"]
    statuses: Counter[int] = Counter()
    memory = Path("/proc/self/statm")
    before, client = 0, Client(server.port)
    for number in range(count):
        if number == count // 3:
            before = int(memory.read_text().split()[1])
        body = {name: rng.choice(values) for name in rng.sample(names, rng.randint(0, 4))}
        body |= {name: good[name] for name in rng.sample(sorted(good), rng.randint(0, 4))}
        content = json.dumps(body).encode()
        if rng.random() < 0.3:
            content = bytearray(content)
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
        method, path = rng.choice(["POST", "POST", "POST", "PUT", "DELETE", "GET"]), rng.choice(paths[:3] * 5 + paths)
        if path == "/reload":
            method = "PUT"
        status, sent, answer = client.raw(method, path, bytes(content), rng.choice(headers))
        statuses[status] += 1
        assert status < 500, (method, path, content, answer)
        if status >= 400:
            assert sent["content-type"] == "application/problem+json"
            assert json.loads(answer)["status"] == status
    assert {200, 400, 401, 404, 405, 415, 422} <= set(statuses)
    assert int(memory.read_text().split()[1]) - before < 20 * 256  # pages of 4 KiB: 20 MiB
    check_alive(server)


PIECES = """
|content-length: 5|content-length: -1|content-length: 1e3|content-length: 99999999999999999999|content-length: 0
transfer-encoding: chunked|transfer-encoding: chunked, identity|expect: 100-continue|connection: close
connection: upgrade|upgrade: websocket|upgrade: h2c|sec-websocket-key: x|http2-settings: x|authorization: bearer x
host: evil.example|content-type: text/plain|: x|x : y| folded|x:|cookie: é|PRI * HTTP/2.0|SM|GET / HTTP/1.0
GET /healthz HTTP/1.1|HEAD /metrics HTTP/1.1|OPTIONS * HTTP/1.1|CONNECT a:1 HTTP/1.1|GET http://[::1/ HTTP/1.1
GET /%ff%00 HTTP/1.1|GET /é HTTP/1.1|GET //a:99999999/ HTTP/1.1|GET /healthz|GET /healthz HTTP/9.9|ffffffffffffffff|0|5
"""
SEPARATORS = [b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b""]


def malformed(rng: random.Random) -> bytes:
    """Some whole requests, of which some bytes are changed, removed, repeated or added."""
    content = bytearray()
    for _ in range(rng.randint(1, 3)):
        method, path, body = rng.choice(
            [
                ("GET", "/healthz", b""),
                ("GET", "/metrics", b""),
                ("POST", "/recommend", b'{"user": 3, "k": 2}'),
                ("POST", "/feedback", b'{"event_id": "e", "user": 3, "item": 4, "feedback": {}}'),
                ("DELETE", "/items", b'{"ids": [100000]}'),
            ]
        )
        content += f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n".encode()
        if body and rng.random() < 0.3:
            content += b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            content += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif body:
            content += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        else:
            content += b"\r\n"
    pieces = [piece.encode() for line in PIECES.splitlines() for piece in line.split("|")]
    for _ in range(rng.randint(0, 3)):
        at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        to = min(to, at + 40)
        change = rng.randrange(5)
        if change == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif change == 1:
            del content[at:to]
        elif change == 2:
            content[at:at] = content[at:to] * rng.choice([1, 1, 50])
        elif change == 3:
            line = content.find(b"\r\n", at) + 2 if rng.random() < 0.7 else at
            content[line:line] = rng.choice(pieces) + rng.choice(SEPARATORS)
        else:
            del content[max(at, 20) :]
    return bytes(content)


async def answers(port: int, requests: list[bytes]) -> list[bytes]:
    """Return the reply to each request on a separate connection, with many connections at a time."""
    turns = asyncio.Semaphore(250)

    async def answer(request: bytes) -> bytes:
        async with turns:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            content = b""
            try:
                writer.write(request)
                while piece := await asyncio.wait_for(reader.read(1 << 16), 20):
                    content += piece
            except ConnectionResetError:
                pass
            finally:
                writer.close()
            return content

    return await asyncio.gather(*map(answer, requests))


@pytest.mark.parametrize("server", [SHORT], indirect=True)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [20_000])
def test_malformed_heads(server: Running, count: int) -> None:
    rng, statuses = random.Random(1), Counter[int]()
    requests = [malformed(rng) for _ in range(count)]
    for request, content in zip(requests, asyncio.run(answers(server.port, requests)), strict=True):
        found = [int(status) for status in re.findall(rb"(?:^|[\n}])HTTP/1\.1 (\d{3}) ", content)]
        assert all(status < 500 for status in found), (request, content)
        assert content == b"" or found, (request, content)
        statuses.update(found)
    assert {200, 400, 401, 408} <= set(statuses)  # a busy machine replies 408 to most of them
    check_alive(server)


def test_thousands_of_idle_connections_do_not_keep_anybody_out(server: Running) -> None:
    """From the address of the client itself, without a token: some that send nothing, some a part of a head."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    served = Client(server.port)
    served.post("/recommend", user=13, k=1)
    idle = []
    for number in range(2_000):
        idle.append(server.connect())
        if number % 2:
            idle[-1].sendall(b"GET /healthz HTTP/1.1\r\n")
        if number % 100 == 99:
            assert Client(server.port, token=None).ask("GET", "/healthz")[0] == 200
            assert Client(server.port).post("/recommend", user=number, k=1)["items"]
    for client in idle:
        client.close()
