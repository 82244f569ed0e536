"""Routes over HTTP without a process: pages of other sites, `HEAD`, and the scheme of the token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from platform_desk import make_policy, with_server
from served import TOKEN
from starlette.responses import Response
from starlette.types import ASGIApp

from prefrec_ray.serving.http import make_app
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.shards import called, scope_of

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
        app, before = make_app(server, None), server.state.next
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
        app = make_app(server, TOKEN)
        for path, token in (("/healthz", None), ("/metrics", "bearer"), ("/openapi.json", "BEARER")):
            headers = {"authorization": f"{token} {TOKEN}"} if token else {}
            get, head = [await ask(app, method, path, **headers) for method in ("GET", "HEAD")]
            assert (get.status_code, head.status_code) == (200, 200)
            assert get.headers["content-type"] == head.headers["content-type"]
        assert (await ask(app, "HEAD", "/metrics")).status_code == 401
        assert (await ask(app, "HEAD", "/recommend", authorization=f"Bearer {TOKEN}")).status_code == 405
        # Other sites cannot send the token, so they are not looked at.
        sent = {**JSON, "authorization": f"bearer {TOKEN}", "origin": "https://shop.example"}
        assert (await ask(app, "POST", "/recommend", {"user": 1}, **sent)).status_code == 200

    with_server(policy, tmp_path / "state", act)
