"""HTTP without a process: guards, cut-off bodies, and the health of a server."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from http_server import called, running, scope_of
from jsonschema import Draft202012Validator
from platform_desk import make_policy, with_server
from served import ALL, TOKEN, Client
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive

from prefrec_ray.cli.main import run
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.clients import Clients
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.http import CLIENTS, ServerApp
from prefrec_ray.serving.http import TOKEN as VARIABLE
from prefrec_ray.serving.requests.bodies import Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.shards import Gateway
from prefrec_ray.web.problems import Problem
from prefrec_ray.web.run import Limits

CHANGES = [
    ("POST", "/recommend", {"user": 1, "k": 1}),
    ("POST", "/feedback", {"event_id": "own", "user": 1, "item": 2, "feedback": {}}),
    ("PUT", "/items", {"items": [{"id": 900, "embedding": [0.5, 0.5, 0.5]}]}),
    ("DELETE", "/items", {"ids": [3]}),
    ("POST", "/reload", None),
]
JSON = {"content_type": "application/json"}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


async def ask(app: ASGIApp, method: str, path: str, body: Any = None, **headers: str) -> Response:
    content = b"" if body is None else json.dumps(body).encode()
    scope = scope_of(method, path)
    sent = {"host": "localhost:8080", "content-length": str(len(content)), **headers}
    scope["headers"] = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return await called(app, scope, content)


def test_a_page_of_another_site_changes_nothing_without_a_token(policy: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        app, before = ServerApp(server, None), server.state.next
        for method, path, body in CHANGES:
            for headers, status in (
                ({**JSON, "origin": "https://evil.example"}, 403),
                ({**JSON, "sec_fetch_site": "cross-site"}, 403),
                ({**JSON, "origin": "http://localhost:3000", "sec_fetch_site": "same-site"}, 403),
                ({"content_type": "text/plain"}, 415),
                ({"content_type": "application/x-www-form-urlencoded"}, 415),
            ):
                refused = await ask(app, method, path, body, **headers)
                problem = json.loads(refused.body)
                assert (refused.status_code, problem["status"]) == (status, status), (path, headers)
                assert "; expected " in problem["detail"]
                assert "\n" not in problem["detail"]
            assert server.state.next == before
        for method, path, body in CHANGES:
            headers = {} if body is None else JSON
            assert (await ask(app, method, path, body, **headers)).status_code == 200
        assert server.state.next == before + len(CHANGES)

    with_server(policy, tmp_path / "state", act)


def test_head_is_get_without_a_body_and_the_scheme_is_bearer_in_any_case(policy: Path, tmp_path: Path) -> None:
    """The body is left out by the HTTP server (test_connections.py)."""

    async def act(server: Server) -> None:
        app = ServerApp(server, ALL)
        for path, token in (("/healthz", None), ("/metrics", "bearer"), ("/metrics", "BEARER")):
            headers = {"authorization": f"{token} {TOKEN}"} if token else {}
            get, head = [await ask(app, method, path, **headers) for method in ("GET", "HEAD")]
            assert (get.status_code, head.status_code) == (200, 200)
            assert get.headers["content-type"] == head.headers["content-type"]
        assert (await ask(app, "HEAD", "/metrics")).status_code == 401
        refused = await ask(app, "HEAD", "/recommend", authorization=f"Bearer {TOKEN}")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        # Other sites cannot send the token, so they are not looked at.
        sent = {**JSON, "authorization": f"bearer {TOKEN}", "origin": "https://shop.example"}
        assert (await ask(app, "POST", "/recommend", {"user": 1}, **sent)).status_code == 200

    with_server(policy, tmp_path / "state", act)


def test_the_openapi_document_has_every_route_and_the_schemas_of_bodies(policy: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        app = ServerApp(server, ALL)
        assert (await ask(app, "GET", "/openapi.json")).status_code == 401
        reply = await ask(app, "GET", "/openapi.json", authorization=f"Bearer {TOKEN}")
        document = json.loads(reply.body)
        routes = {(path, method) for path, methods in document["paths"].items() for method in methods}
        assert routes == {
            ("/recommend", "post"),
            ("/feedback", "post"),
            ("/items", "put"),
            ("/items", "delete"),
            ("/reload", "post"),
            *((path, "get") for path in ("/healthz", "/metrics", "/openapi.json")),
        }
        for path, body, fits in (
            ("/recommend", {"user": 1, "k": 3}, True),
            ("/recommend", {"requests": [{"user": "a"}]}, True),
            ("/recommend", {"k": 3}, False),
            ("/feedback", {"event_id": "e", "items": [{"item": 1, "feedback": {"like": 1}}]}, True),
            ("/feedback", {"event_id": "e", "user": 1}, False),
        ):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            Draft202012Validator.check_schema(schema := {**content, "components": document["components"]})
            assert Draft202012Validator(schema).is_valid(body) is fits, body

    with_server(policy, tmp_path / "state", act)


def test_an_unexpected_error_is_logged_and_is_a_reply(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise RuntimeError("a secret of the server")

    async def act(server: Server) -> None:
        monkeypatch.setattr(server, "reload", fail)
        app = ServerApp(server, ALL)
        reply = await ask(app, "POST", "/reload", authorization=f"Bearer {TOKEN}")
        assert (reply.status_code, json.loads(reply.body)["detail"]) == (500, "the request failed")
        metrics = (await ask(app, "GET", "/metrics", authorization=f"Bearer {TOKEN}")).body
        assert b'prefrec_serve_requests_total{client="default",route="/reload",status="500"} 1.0' in metrics
        assert f"/reload: request {reply.headers['x-request-id']} of client default failed" in caplog.text

    with_server(policy, tmp_path / "state", act)
    assert "RuntimeError: a secret of the server" in caplog.text


def test_a_client_has_its_rights_and_is_named(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {name: f"the token of {name}, long enough" for name in ("shop", "player", "ops", "prometheus")}
    rights = {"shop": ["recommend"], "player": ["feedback"], "ops": ["admin"], "prometheus": []}
    file = tmp_path / "clients.yaml"
    entries = {name: {"sha256": sha256(tokens[name].encode()).hexdigest(), "rights": rights[name]} for name in tokens}
    file.write_text(json.dumps(entries))  # JSON is YAML
    file.chmod(0o600)
    monkeypatch.setenv(VARIABLE, TOKEN)
    monkeypatch.setenv(CLIENTS, str(file))
    clients = Clients.from_environment(VARIABLE, CLIENTS)
    needed = {"/recommend": "recommend", "/feedback": "feedback", "/items": "admin", "/reload": "admin"}

    async def act(server: Server) -> None:
        app = ServerApp(server, clients)
        for name, token in {**tokens, "default": TOKEN}.items():
            for method, path, body in CHANGES:
                headers = {**(JSON if body else {}), "authorization": f"Bearer {token}"}
                before = server.state.next
                reply = await ask(app, method, path, body, **headers)
                if name == "default" or needed[path] in rights[name]:
                    assert reply.status_code == 200
                    continue
                found = ", ".join(rights[name]) or "none"
                detail = f"client '{name}': found the rights {found}; expected {needed[path]} for {path}"
                assert (reply.status_code, json.loads(reply.body)["detail"]) == (403, detail)
                assert server.state.next == before
            metrics = await ask(app, "GET", "/metrics", authorization=f"Bearer {token}")
            assert metrics.status_code == 200
        assert (
            await ask(app, "GET", "/metrics", authorization=f"Bearer {entries['ops']['sha256']}")
        ).status_code == 401
        assert (await ask(app, "GET", "/metrics", authorization=f"Basic {TOKEN}")).status_code == 401
        assert (await ask(app, "GET", "/nothing", authorization=f"Bearer {tokens['shop']}")).status_code == 404
        text = (await ask(app, "GET", "/metrics", authorization=f"Bearer {TOKEN}")).body.decode()
        assert 'requests_total{client="shop",route="/reload",status="403"} 1.0' in text
        assert 'requests_total{client="none",route="/metrics",status="401"} 2.0' in text
        assert not any(token in text for token in tokens.values())

    with_server(policy, tmp_path / "state", act)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("{}", 0o640, "found mode 0640; expected 0600"),
        ("{}", 0o604, "found mode 0604; expected 0600"),
        ("{}", 0o600, "found no client; expected YAML, NAME: {sha256: HASH, rights: [recommend, feedback, admin]}"),
        ("app: *secret", 0o600, "found no client; expected YAML, NAME: "),
        ("app: secret", 0o600, "client 'app': found other keys; expected sha256 and rights"),
        ("app: {sha256: secret, rights: [admin]}", 0o600, "client 'app': found no hash; expected sha256: 64"),
        ("app: {sha256: 123, rights: [admin]}", 0o600, "client 'app': found no hash; expected sha256: 64"),
        (f"app: {{sha256: {64 * 'a'}, rights: [secret]}}", 0o600, "client 'app': found other rights; expected a list"),
        (f"app: {{sha256: {64 * 'a'}, rights: admin}}", 0o600, "client 'app': found other rights; expected a list"),
        (f"default: {{sha256: {64 * 'a'}, rights: []}}", 0o600, "client 'default': found this name; expected"),
        (f"'a b': {{sha256: {64 * 'a'}, rights: []}}", 0o600, "client 'a b': found this name; expected letters"),
        (
            f"a: {{sha256: {64 * 'a'}, rights: []}}\nb: {{sha256: {64 * 'a'}, rights: []}}",
            0o600,
            "found the same sha256 twice; expected another token for each client",
        ),
        (None, 0o600, "found no readable file (No such file or directory); expected a list of clients"),
    ],
)
def test_a_bad_file_of_clients_is_one_line_without_its_values(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    mode: int,
    message: str,
) -> None:
    file = tmp_path / "clients.yaml"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    monkeypatch.setenv(CLIENTS, str(file))
    assert run(["serve", str(policy), "--state", str(tmp_path / "state"), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file}: {message}" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("sent", "taken"),
    [("7b0e-4.a_b:9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("a\nforged", False)],
)
def test_an_id_of_a_request_is_taken_or_made(policy: Path, tmp_path: Path, sent: str, taken: bool) -> None:
    async def act(server: Server) -> None:
        app = ServerApp(server, ALL)
        for path, status in (("/healthz", 200), ("/metrics", 401)):
            first, second = [await ask(app, "GET", path, x_request_id=sent) for _ in range(2)]
            assert first.status_code == status
            ids = [reply.headers["x-request-id"] for reply in (first, second)]
            if taken:
                assert ids == [sent, sent]
            else:
                assert ids[0] != ids[1]
                assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)

    with_server(policy, tmp_path / "state", act)


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
        scope = scope_of(method, path)
        scope["headers"] += [(b"authorization", f"Bearer {TOKEN}".encode())]
        response = await called(ServerApp(server, ALL), scope, cut_off())
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

    monkeypatch.setattr("prefrec_ray.serving.http.Limits", SimpleNamespace(body_seconds=0.05))
    response = asyncio.run(Gateway([])(Request(scope, receive)))
    assert response.status_code == 408
    assert b"the body was not whole after 0.05 seconds" in response.body


def test_one_who_never_ends_a_body_does_not_keep_a_server_from_its_end(policy: Path, tmp_path: Path) -> None:
    opened = Opened(str(policy), str(tmp_path / "state"), ServeSettings())
    with running(ServerApp(Server(opened), ALL), Limits()) as server:
        Client(server.port).post("/recommend", user=1, k=1)
        lost = server.connect()
        head = f"POST /recommend HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
        lost.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
        time.sleep(0.3)
        begin = time.monotonic()
    assert 1 < time.monotonic() - begin < 15  # the rest of the body may come
    lost.close()
    assert server.logged == []
    (snapshot,) = (tmp_path / "state" / "snapshots").iterdir()
    assert int(snapshot.name) == 2


@pytest.mark.parametrize(("call", "status"), [("write", 200), ("fsync", 503)])
def test_a_log_that_takes_nothing_any_more_is_not_healthy(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, status: int
) -> None:
    """A failed write may succeed later; after a failed fsync the content of the disk is unknown."""

    async def act(server: Server) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        app = ServerApp(server, ALL)
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
