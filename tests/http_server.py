"""A server of `prefrec_ray.web` in a thread of the test, raw clients for it, and calls of an app without a server."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope

from prefrec_ray.web.run import Limits, make_server


class Running:
    """The port of a server, and its log."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.logged: list[str] = []

    def connect(self) -> socket.socket:
        """A connection that waits 5 s for an answer."""
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def send(self, *parts: bytes, pause: float = 0.0) -> list[int]:
        """Sends parts on a new connection; returns the statuses of the answers, once the server has closed it."""
        with self.connect() as client:
            for part in parts:
                try:
                    client.sendall(part)
                except OSError:  # closed meanwhile
                    break
                time.sleep(pause)
            return statuses(client)


@contextmanager
def running(app: Any, limits: Limits) -> Iterator[Running]:
    """Serves `app` until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server, process = make_server(app, limits), Running(listener.getsockname()[1])
    handler = logging.Handler()
    handler.emit = lambda record: process.logged.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, args=([listener],))
    names = ("uvicorn.error", "asyncio")
    for name in names:
        logging.getLogger(name).addHandler(handler)
    thread.start()
    try:
        yield process
    finally:
        server.should_exit = True
        thread.join(20)
        for name in names:
            logging.getLogger(name).removeHandler(handler)
        assert not thread.is_alive()


def statuses(client: socket.socket) -> list[int]:
    """The statuses of all answers until the server closes the connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received(client))]


def received(client: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    content = b""
    while True:
        try:
            piece = client.recv(1 << 16)
        except ConnectionResetError:
            return content
        if not piece:
            return content
        content += piece


def scope_of(method: str, path: str) -> Scope:
    """Return the ASGI scope of an HTTP request with a JSON body."""
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
    """Return the whole reply of `app` in this process. `body`: its bytes, or a function that receives them."""
    start: Message = {}
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
