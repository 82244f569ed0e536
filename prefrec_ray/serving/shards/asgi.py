"""Calls of an ASGI app in the same process, by which a shard reaches its own routes."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope


def scope_of(method: str, path: str) -> Scope:
    """Return the scope of an HTTP request with a JSON body."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }


async def called(app: ASGIApp, scope: Scope, body: bytes | Receive) -> Response:
    """Return the whole reply of `app` to an HTTP request. `body`: its bytes, or a function that receives them."""
    start: Message = {"status": 500, "headers": []}
    parts: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive if isinstance(body, bytes) else body, send)
    response = Response(b"".join(parts), start["status"])
    response.raw_headers = list(start["headers"])
    return response
