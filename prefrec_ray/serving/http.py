"""HTTP app of a server, and the process of `prefrec serve`."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from threadpoolctl import threadpool_limits

from prefrec_ray.serving.clients import Clients
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.openapi import document
from prefrec_ray.serving.requests.bodies import DeleteItems, PutItems, parse, parse_feedback, parse_recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.problems import Headers, Problem, answer_of, as_get, check_body, check_host, check_origin, limited
from prefrec_ray.web.run import Limits, check_address, listening, run_app, url_of

#: Variables of the environment: a token with all rights, and the path of a file of clients.
TOKEN, CLIENTS = "PREFREC_SERVE_TOKEN", "PREFREC_SERVE_CLIENTS"


class Route(NamedTuple):
    """Methods of a path, the right that they need (None: none), and the most bytes of a body."""

    methods: tuple[str, ...]
    right: str | None = None
    most: int = 1 << 17


#: `HEAD` is replied to like `GET`.
ROUTES = {
    "/recommend": Route(("POST",), "recommend", 1 << 20),
    "/feedback": Route(("POST",), "feedback"),
    "/items": Route(("PUT", "DELETE"), "admin", 1 << 24),
    "/reload": Route(("POST",), "admin"),
    "/healthz": Route(("GET",)),
    "/metrics": Route(("GET",)),
    "/openapi.json": Route(("GET",)),
}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")

_LOG = logging.getLogger(__name__)


@dataclass
class Caller:
    """Sender of an HTTP request, for logs and metrics: the id of the request, and the name of the client if known."""

    request_id: str
    client: str = "none"

    @classmethod
    def from_headers(cls, scope: Scope) -> Caller:
        """Return a caller with the `X-Request-ID` of the headers, or with a new id if that is absent or malformed."""
        sent = dict(scope["headers"]).get(b"x-request-id", b"")
        return cls(sent.decode() if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex)

    def sign(self, reply: Response) -> Response:
        """Return `reply` with the id of the request."""
        reply.headers["x-request-id"] = self.request_id
        return reply


def serve(
    policy: str, folder: str, settings: ServeSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or Ctrl-C. `say` prints lines about repairs in `folder`, and the address.

    Raises `UserError` for an address other than loopback without a token, for an address in use, and as `Opened` does.
    """
    clients = Clients.from_environment(TOKEN, CLIENTS)
    check_address(host, clients is not None, TOKEN)
    with listening(host, port) as listener:
        opened = Opened(policy, folder, settings)
        for note in opened.notes:
            say(note)
        app = ServerApp(Server(opened), clients)
        settle()
        say(f"serving on {url_of(host, listener)} (users: {len(opened.state.users):,})")
        run_app(app, listener)


def settle() -> None:
    """Prepare this process for many small HTTP requests, after policies and users are loaded."""
    torch.set_num_threads(1)  # batches are small, and threads would wait for each other
    threadpool_limits(1, "blas")  # the same for NumPy
    # Objects made so far stay; garbage collections over all of them would cause pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class ServerApp:
    """ASGI app of `server`. With `clients`, every HTTP request except for `/healthz` must be from one of them."""

    def __init__(self, server: Server, clients: Clients | None) -> None:
        self._server, self._clients = server, clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self._server.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._server.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        caller = Caller.from_headers(scope)
        reply = await counted(self._server, scope["path"], caller, self._reply(scope, receive, caller))
        await caller.sign(reply)(scope, receive, send)

    async def _reply(self, scope: Scope, receive: Receive, caller: Caller) -> Response:
        method, body = await read_request(scope, receive, self._clients, caller)
        return await reply_to(self._server, method, scope["path"], body)


async def counted(server: Server, path: str, caller: Caller, work: Awaitable[Response]) -> Response:
    """Return the reply, or the error reply, that `work` makes; it is counted by client and route, and timed."""
    begin = time.perf_counter()
    try:
        reply = await work
    except Problem as problem:
        reply = answer_of(problem)
    except Exception:
        _LOG.exception("%s: request %s of client %s failed", path, caller.request_id, caller.client)
        reply = answer_of(Problem(500, "the request failed"))
    route = path if path in ROUTES else "other"
    server.metrics.count(route, reply.status_code, caller.client, time.perf_counter() - begin)
    return reply


async def reply_to(server: Server, method: str, path: str, body: bytes) -> Response:
    """Return the reply to an HTTP request that `read_request` accepts. Raises `Problem`."""
    match method, path:
        case _, "/recommend":
            return _json((await server.do(parse_recommend(body))).body)
        case _, "/feedback":
            return _json((await server.do(parse_feedback(body))).body)
        case "PUT", "/items":
            return _json(await server.put_items(parse(PutItems, body)))
        case "DELETE", "/items":
            return _json(await server.delete_items(parse(DeleteItems, body)))
        case _, "/reload":
            return _json(await server.reload())
        case _, "/metrics":
            return Response(server.metrics.text(server.state), media_type=METRICS_TYPE)
        case _, "/openapi.json":
            return _json(document({path: route.methods for path, route in ROUTES.items()}))
    await server.check()
    state = server.state
    return _json({"status": "ok", "policy": state.loaded[0].digest, "users": len(state.users), "events": state.next})


async def read_request(scope: Scope, receive: Receive, clients: Clients | None, caller: Caller) -> tuple[str, bytes]:
    """Return the method and the whole body of an HTTP request, and set the client of `caller`.

    Raises `Problem` if no client has the token, if the client lacks the right, if a page of another site sent the
    request, for another path or method, if the body is too large, even if the headers announce fewer bytes, if its
    content type is not JSON, and if it does not arrive whole and in time.
    """
    path, headers, method = scope["path"], dict(scope["headers"]), as_get(scope)["method"]
    route = ROUTES.get(path)
    if path != "/healthz":
        if clients is None:
            check_host(headers, TOKEN)
            check_origin(method, headers)
        else:
            _check_client(path, headers, clients, caller)
    if route is None:
        raise Problem(404, f"path: found {path[:80]!r}; expected one of {', '.join(ROUTES)}")
    if method not in route.methods:
        expected = f"expected {' or '.join(route.methods)}"
        raise Problem(405, f"method: found {method}; {expected}", {"Allow": ", ".join(route.methods)})
    check_body(headers, route.most, b"application/json")
    try:
        async with asyncio.timeout(Limits.body_seconds):
            return method, await Request(scope, limited(receive, route.most)).body()
    except TimeoutError:
        raise Problem(408, f"the body was not whole after {Limits.body_seconds:g} seconds") from None
    except ClientDisconnect:
        raise Problem(400, "the body ended before it was whole") from None


def _check_client(path: str, headers: Headers, clients: Clients, caller: Caller) -> None:
    client = clients.find(headers)
    if client is None:
        wanted = {"WWW-Authenticate": "Bearer"}
        raise Problem(401, f"expected the header Authorization: Bearer, with the token {TOKEN} or of a client", wanted)
    caller.client = client.name
    right = ROUTES[path].right if path in ROUTES else None
    if right is not None and right not in client.rights:
        found = ", ".join(client.rights) or "none"
        raise Problem(403, f"client '{client.name}': found the rights {found}; expected {right} for {path}")


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body, separators=(",", ":"), allow_nan=False), media_type="application/json")
