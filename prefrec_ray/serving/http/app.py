"""HTTP app of a server: routes, token, limits of bodies, and errors as problems."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItems, Recommend, parse
from prefrec_ray.serving.server import Server
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

#: Most bytes of the body of an HTTP request, and of one that adds items.
MOST_BYTES, MOST_BYTES_OF_ITEMS = 1 << 17, 1 << 24
ROUTES = ("/recommend", "/feedback", "/items", "/reload", "/healthz", "/metrics")
OPEN = ("/healthz",)
TOKEN = "PREFREC_SERVE_TOKEN"


def make_app(server: Server, token: str | None) -> FastAPI:
    """Return the app of `server`. If `token` is set, every HTTP request except for `/healthz` must send it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    app = routes_of(server, lifespan)
    app.add_middleware(RequestGuard, token=token)
    app.add_middleware(ReplyMetrics, metrics=server.metrics)
    return app


def routes_of(server: Server, lifespan: Any = None) -> FastAPI:
    """Return the app without a guard, for HTTP requests that are already checked."""
    app = FastAPI(title="prefrec serve", lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_routes(app, server)
    app.add_exception_handler(Problem, lambda _, error: answer_of(error))
    app.add_exception_handler(HTTPException, _of_http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, lambda *_: answer_of(Problem(500, "the request failed")))
    return app


def _add_routes(app: FastAPI, server: Server) -> None:
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


class ReplyMetrics:
    """Counts the replies of `app` and measures their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500
        route = scope["path"] if scope["path"] in ROUTES else "other"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)


class RequestGuard:
    """Refuses HTTP requests without the token, from pages of other sites, too large, or of another content type.

    `HEAD` goes to the route of `GET`; the server omits the body of the reply.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MOST_BYTES_OF_ITEMS if scope["path"] == "/items" else MOST_BYTES
        try:
            self._check(scope, most)
            await self._app(as_get(scope), limited(receive, most), send)
        except Problem as problem:
            await answer_of(problem)(scope, receive, send)

    def _check(self, scope: Scope, most: int) -> None:
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN:
            self._check_sender(scope["method"], headers)
            scope.setdefault("state", {})["trusted"] = True
        check_body(headers, most, b"application/json")

    def _check_sender(self, method: str, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            check_host(headers, TOKEN)
            check_origin(method, headers)
        elif not has_token(headers, self._token):
            raise Problem(401, f"expected the header Authorization: Bearer, with the token {TOKEN}")


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
