"""HTTP app of a server, and the process of `prefrec serve`."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.metrics import ROUTES, ReplyMetrics
from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItems, Recommend, parse
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.problems import (
    Problem,
    answer_of,
    as_get,
    check_body,
    check_host,
    check_origin,
    has_token,
    limited,
)
from prefrec_ray.web.run import checked_token, listening, run_app, url_of

#: Most bytes of the body of an HTTP request, and of one that adds items.
_MOST_BYTES, _MOST_BYTES_OF_ITEMS = 1 << 17, 1 << 24
TOKEN = "PREFREC_SERVE_TOKEN"


def serve(
    policy: str, folder: str, settings: ServeSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or Ctrl-C. `say` prints lines about repairs in `folder`, and the address.

    Raises `UserError` for an address other than loopback without a token, for an address in use, and as `Opened` does.
    """
    token = checked_token(host, TOKEN)
    with listening(host, port) as listener:
        opened = Opened(policy, folder, settings)
        for note in opened.notes:
            say(note)
        app = make_app(Server(opened), token)
        settle()
        say(f"serving on {url_of(host, listener)} (users: {len(opened.state.users):,})")
        run_app(app, listener)


def settle() -> None:
    """Prepare this process for many small HTTP requests, after policies and users are loaded."""
    torch.set_num_threads(1)  # batches are small, and threads would wait for each other
    # Objects made so far stay; garbage collections over all of them would cause pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def make_app(server: Server, token: str | None) -> ASGIApp:
    """Return the app of `server`. If `token` is set, every HTTP request except for `/healthz` must send it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    return ReplyMetrics(RequestGuard(routes_of(server, lifespan), token), server.metrics)


def routes_of(server: Server, lifespan: Any = None) -> FastAPI:
    """Return the app without a guard, for HTTP requests that are already checked."""
    app = FastAPI(title="prefrec serve", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_exception_handler(Problem, lambda _, error: answer_of(error))
    app.add_exception_handler(HTTPException, _of_http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, lambda *_: answer_of(Problem(500, "the request failed")))

    @app.post("/recommend", openapi_extra=_body(Recommend))
    async def recommend(request: Request) -> Response:
        """Return items for a user, drawn by the policy, and the propensity of each item given the items before it."""
        return _json((await server.do(await _read(request, Recommend))).body)

    @app.post("/feedback", openapi_extra=_body(Feedback))
    async def feedback(request: Request) -> Response:
        """Register feedback of a user on an item. Repeated feedback is acknowledged again and counts once."""
        return _json((await server.do(await _read(request, Feedback))).body)

    @app.put("/items", openapi_extra=_body(PutItems))
    async def put_items(request: Request) -> Response:
        """Add items."""
        return _json(await server.changes.put_items(await _read(request, PutItems)))

    @app.delete("/items", openapi_extra=_body(DeleteItems))
    async def delete_items(request: Request) -> Response:
        """Withdraw items."""
        return _json(await server.changes.delete_items(await _read(request, DeleteItems)))

    @app.post("/reload")
    async def reload() -> Response:
        """Load the policies of all arms again."""
        return _json(await server.changes.reload())

    @app.get("/healthz")
    async def healthz() -> Response:
        """Return the health of the server, for load balancers."""
        if not server.healthy:
            raise Problem(503, "the log failed, or the state differs from it; restart the server")
        state = server.state
        return _json(
            {"status": "ok", "policy": state.loaded[0].digest, "users": len(state.users), "events": state.next}
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        state, measured = server.state, server.metrics
        measured.users.set(len(state.users))
        measured.events.set(state.next)
        for one, shelf in zip(state.loaded, state.shelves, strict=True):
            measured.items.labels(one.arm).set(len(shelf.policy.items) - len(shelf.gone))
        return Response(generate_latest(measured.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


class RequestGuard:
    """Refuses HTTP requests by `check_request`, and bodies that are larger than their headers announce.

    `HEAD` goes to the route of `GET`; the server omits the body of the reply.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            most = check_request(scope, self._token)
            await self._app(as_get(scope), limited(receive, most), send)
        except Problem as problem:
            await answer_of(problem)(scope, receive, send)


def check_request(scope: Scope, token: str | None) -> int:
    """Return the most bytes of the body of an HTTP request.

    Raises `Problem` if the `token` is missing, if a page of another site sent it, if its body is too large, and if its
    content type is not JSON.
    """
    most = _MOST_BYTES_OF_ITEMS if scope["path"] == "/items" else _MOST_BYTES
    headers = dict(scope["headers"])
    if scope["path"] != "/healthz":
        if token is None:
            check_host(headers, TOKEN)
            check_origin(scope["method"], headers)
        elif not has_token(headers, token):
            raise Problem(401, f"expected the header Authorization: Bearer, with the token {TOKEN}")
        scope.setdefault("state", {})["trusted"] = True
    check_body(headers, most, b"application/json")
    return most


async def body_of(request: Request) -> bytes:
    """Return the whole body. Raises `Problem` if the client disconnects before its end."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise Problem(400, "the body ended before it was whole") from None


async def _read(request: Request, model: type[Any]) -> Any:
    return parse(model, await body_of(request))


async def _of_http(_: Request, error: HTTPException) -> Response:
    expected = f"; expected one of {', '.join(ROUTES)}" if error.status_code == 404 else ""
    answer = answer_of(Problem(error.status_code, f"{error.detail}{expected}"))
    answer.headers.update(error.headers or {})
    return answer


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body, separators=(",", ":"), allow_nan=False), media_type="application/json")


def _body(model: type[Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
