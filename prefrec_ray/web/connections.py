"""Limits of HTTP connections, and the register of open connections."""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefrec_ray.web.protocol import LimitedProtocol

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
