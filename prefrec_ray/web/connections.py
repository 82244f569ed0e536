"""HTTP/1.1 connections of uvicorn with limits: times, sizes and numbers, for one HTTP request at a time."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import resource
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prefrec_ray.web.problems import MEDIA_TYPE, Problem

#: File descriptors reserved for everything except connections.
_OTHER_FILES = 256


@dataclass(frozen=True)
class Limits:
    """Largest number of connections of a server, and seconds that it waits for a client.

    head_seconds: for the end of the head of an HTTP request, from its first byte; also for the first byte of a new
    connection. body_seconds: for the end of a body. idle_seconds: for the next HTTP request. unread_seconds: until the
    client reads a reply. flush_seconds: the same while the connection is being closed. last_seconds: for the rest of a
    body after SIGTERM.
    """

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: int = 75
    unread_seconds: float = 30.0
    flush_seconds: float = 1.0
    last_seconds: float = 2.0
    head_bytes: int = 1 << 16
    per_address: int = 1_000
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
        connections = max(8, soft - _OTHER_FILES)
        return replace(self, connections=connections, per_address=min(self.per_address, max(4, connections // 4)))


class Connections:
    """Open connections. A connection that waits for its client is closed if a new one would exceed a limit.

    The oldest connection without an HTTP request with a token is closed first. So a client that opens thousands of
    connections replaces its own, and health checks get replies at all times.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._all: dict[LimitedProtocol, None] = {}
        self._by_address: dict[str, dict[LimitedProtocol, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: LimitedProtocol) -> bool:
        """Add a connection. Return False if there are too many and all are busy."""
        mine = self._by_address.get(connection.address, {})
        for held, most in ((mine, self.limits.per_address), (self._all, self.limits.connections)):
            if len(held) >= most:
                waiting = _longest_waiting(held)
                if waiting is None:
                    return False
                self.remove(waiting)
                waiting.drop()
        self._all[connection] = None
        self._by_address.setdefault(connection.address, {})[connection] = None
        return True

    def remove(self, connection: LimitedProtocol) -> None:
        """Remove a connection, if it is registered."""
        self._all.pop(connection, None)
        mine = self._by_address.get(connection.address, {})
        mine.pop(connection, None)
        if not mine:
            self._by_address.pop(connection.address, None)


def _longest_waiting(held: Iterable[LimitedProtocol]) -> LimitedProtocol | None:
    waiting = [connection for connection in held if not connection.busy]
    return next((connection for connection in waiting if not connection.trusted), next(iter(waiting), None))


def client_network(host: str) -> str:
    """Return the unit in which connections are counted: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{int(address) >> 64:x}::/64"


class _RequestPart(Enum):
    """The part of an HTTP request that the client is sending."""

    NONE, HEAD, BODY = range(3)


class LimitedProtocol(HttpToolsProtocol):
    """One connection, limited by `register`.

    A timer runs while the client has to send something. It is set when data arrives that does not end an HTTP request,
    so an HTTP request in one packet needs no timer. If a client sends an HTTP request before the reply to the previous
    one is complete (pipelining), the connection ends after this reply, and the client has to send it again.
    """

    def __init__(self, *given: Any, register: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._register, self._limits = register, register.limits
        self.address, self.trusted = "", False
        self._part, self._head_bytes = _RequestPart.NONE, 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Return True if the reply to a whole HTTP request is in progress and the client reads."""
        return self._replying and not self.flow.write_paused

    @property
    def _replying(self) -> bool:
        return self._part is _RequestPart.NONE and self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection, or refuse it."""
        super().connection_made(transport)
        self.address = client_network(self.client[0] if self.client else "")
        if self._register.add(self):
            self._wait(self._limits.head_seconds)
        else:
            most = self._limits
            expected = f"expected at most {most.per_address:,} of one address, {most.connections:,} in all"
            self._end(Problem(503, f"too many requests at once; {expected}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self.resume_writing()
        self._register.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a part of an HTTP request, and set the timer for the missing part."""
        part = self._part
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._head_bytes = self._head_bytes + len(data) if self._part is _RequestPart.HEAD else 0
        if self._head_bytes > self._limits.head_bytes:
            self._end(
                Problem(431, f"found a head of more than {self._limits.head_bytes:,} bytes; expected a shorter one")
            )
        elif self._replying:
            self._stop_waiting()
        elif part is not self._part or self._timer is None:
            body = self._part is _RequestPart.BODY
            self._wait(self._limits.body_seconds if body else self._limits.head_seconds)

    def on_message_begin(self) -> None:
        """Begin an HTTP request, unless the previous reply is not complete."""
        if self._replying:
            raise ValueError("ends the parser")
        self._part, self._head_bytes = _RequestPart.HEAD, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the reply to an HTTP request."""
        super().on_headers_complete()
        self._part = _RequestPart.BODY

    def on_message_complete(self) -> None:
        """End an HTTP request."""
        super().on_message_complete()
        self._part = _RequestPart.NONE

    def on_response_complete(self) -> None:
        """Remember whether the HTTP request had a token."""
        self.trusted = self.trusted or bool(self.cycle.scope.get("state", {}).get("trusted"))
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse data that the parser rejects, or end the connection after the reply in progress."""
        if self._replying:
            self.cycle.keep_alive = False
        else:
            self._end(Problem(400, "found no valid HTTP/1.1 request; expected a request line, headers and a body"))

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # the parser skips the rest of the packet

    def pause_writing(self) -> None:
        """Give the client some seconds to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def shutdown(self) -> None:
        """Finish the current HTTP request, if its body arrives soon."""
        super().shutdown()
        if self._part is _RequestPart.BODY and not self.transport.is_closing():
            self._wait(self._limits.last_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection after too long without an HTTP request."""
        self.drop()

    def drop(self) -> None:
        """Close the connection, even if the client does not read."""
        unread = self.transport.get_write_buffer_size()
        self.transport.close()
        if unread:
            self.loop.call_later(self._limits.flush_seconds, self.transport.abort)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._too_late, seconds)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self, seconds: float) -> None:
        self._timer = None
        if not self.transport.is_closing():
            part = "body" if self._part is _RequestPart.BODY else "head"
            self._end(Problem(408, f"the {part} was not whole after {seconds:g} seconds"))

    def _end(self, problem: Problem) -> None:
        """End the connection with `problem`, unless the reply to the current HTTP request has begun."""
        cycle = self.cycle if self._part is _RequestPart.BODY else None
        if cycle is None or not cycle.response_started:
            self.transport.write(_whole_answer(problem))
        if cycle is not None:
            cycle.disconnected = True
        self.drop()


def _whole_answer(problem: Problem) -> bytes:
    body = problem.body()
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {problem.status} {body['title']}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
