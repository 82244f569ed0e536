"""Process of an HTTP server by uvicorn: address, token, limits of its connections, and the run until SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prefrec_ray.errors import UserError
from prefrec_ray.web.problems import MEDIA_TYPE, Problem, is_loopback

_SHORTEST = 16
#: Seconds for the rest of a body after SIGTERM.
_LAST_SECONDS = 2.0
#: File descriptors reserved for everything except connections.
_OTHER_FILES = 256


@dataclass(frozen=True)
class Limits:
    """Largest number of connections of a server, and seconds that it waits for a client.

    head_seconds: for the end of the head of an HTTP request, from its first byte; also for the first byte of a new
    connection. body_seconds: for the end of a body. idle_seconds: for the next HTTP request.
    """

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: int = 75
    head_bytes: int = 1 << 16
    connections: int = 4_000

    def within_files(self) -> Limits:
        """Raise the process's soft limit of open files if it is too low, and return limits that fit the hard limit."""
        needed = self.connections + _OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return self
        return replace(self, connections=max(8, soft - _OTHER_FILES))


class LimitedProtocol(HttpToolsProtocol):
    """One connection with `limits`.

    A timer runs while the client has to send the rest of a head or a body. It is set when data arrives that does not
    end an HTTP request, so an HTTP request in one packet needs no timer.
    """

    def __init__(self, *given: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._in_body, self._head_bytes = False, 0
        self._open: list[Any] = []  # cycles of requests without a whole reply, in order
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for an HTTP request, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._end(Problem(503, f"too many connections; expected at most {self._limits.connections:,}"))
        else:
            self._wait(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and end all its replies: uvicorn ends only the reply to the last request."""
        self._stop_waiting()
        super().connection_lost(exc)
        for cycle in self._open:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse a part of an HTTP request, and set the timer for the missing part."""
        was_in_body = self._in_body
        self._head_bytes += 0 if was_in_body else len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > self._limits.head_bytes:
            self._end(
                Problem(431, f"found a head of more than {self._limits.head_bytes:,} bytes; expected a shorter one")
            )
        elif self._replying:
            self._stop_waiting()
        elif was_in_body is not self._in_body or self._timer is None:
            self._wait(self._limits.body_seconds if self._in_body else self._limits.head_seconds)

    def on_headers_complete(self) -> None:
        """Begin the reply to an HTTP request."""
        super().on_headers_complete()
        self._open = [cycle for cycle in (*self._open, self.cycle) if not cycle.response_complete]
        self._in_body, self._head_bytes = True, 0

    def on_message_complete(self) -> None:
        """End an HTTP request."""
        super().on_message_complete()
        self._in_body = False

    def send_400_response(self, msg: str) -> None:
        """Refuse data that the parser rejects."""
        self._end(Problem(400, "found no valid HTTP/1.1 request; expected a request line, headers and a body"))

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # the parser skips the rest of the packet

    def shutdown(self) -> None:
        """Finish the current HTTP request, if its body arrives soon."""
        super().shutdown()
        if self._in_body and not self.transport.is_closing():
            self._wait(_LAST_SECONDS)

    @property
    def _replying(self) -> bool:
        return not self._in_body and self.cycle is not None and not self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._too_late, seconds)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self, seconds: float) -> None:
        part = "body" if self._in_body else "head"
        self._end(Problem(408, f"the {part} was not whole after {seconds:g} seconds"))

    def _end(self, problem: Problem) -> None:
        """End the connection with `problem`, or after the replies in progress without it."""
        if self.pipeline and self._in_body:  # this HTTP request waits for the reply to the previous one
            self.pipeline.popleft()
            self._open.pop()
            self.cycle, self._in_body = self._open[-1], False
        if self._replying:
            self.cycle.keep_alive = False
            return
        if not self._in_body or not self.cycle.response_started:
            body = problem.body()
            content = json.dumps(body)
            self.transport.write(
                f"HTTP/1.1 {problem.status} {body['title']}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n{content}".encode()
            )
        if self._in_body:
            self.cycle.disconnected = True
        self.transport.close()


def check_address(host: str, protected: bool, variable: str) -> None:
    """Check that `host` is loopback if the server is not `protected` by a token. Raises `UserError`."""
    if not protected and not is_loopback(host):
        raise UserError(
            f"--host {host}: found an address that others can reach; expected a token in {variable}, or 127.0.0.1"
        )


def token_of_environment(variable: str) -> str | None:
    """Return the token in the environment's `variable`, or None. Raises `UserError` if it is too short."""
    token = os.environ.get(variable)
    if not token:
        return None
    token = token.strip()  # as it is compared
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
        raise UserError(
            f"{variable}: found a token of {len(token)} characters; expected at least {_SHORTEST}, plain ASCII"
        )
    return token


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises `UserError` if the address is in use, invalid, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError, TypeError) as error:  # TypeError: not a valid host name
        listener.close()
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another port") from error
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Return http://HOST:PORT."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def run_app(app: Any, listener: socket.socket) -> None:
    """Serve `app` in this process until SIGTERM or Ctrl-C."""
    make_server(app, Limits().within_files()).run([listener])


def make_server(app: Any, limits: Limits) -> uvicorn.Server:
    """Return a uvicorn server with `limits` for its connections."""
    protocol: Any = partial(LimitedProtocol, limits=limits)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="error",  # at level warning, each malformed HTTP request would give a line
        access_log=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=5,  # seconds
    )
    return uvicorn.Server(config)
