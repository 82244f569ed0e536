"""What a request may be: of this machine or with the token, and of a limited size. Else it is a `Problem`."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Message, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prefrec_ray.web.problems import MEDIA_TYPE, Problem

#: Bytes of the headers of a request, and requests and connections at a time.
MOST_BYTES_OF_HEAD, MOST_CONNECTIONS = 1 << 16, 2_000
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

Headers = Mapping[bytes, bytes]


def has_token(headers: Headers, token: str | None) -> bool:
    """Whether the request sends `token`; False where there is none."""
    sent = headers.get(b"authorization", b"")
    return token is not None and hmac.compare_digest(sent, b"Bearer " + token.encode())


def check_host(headers: Headers, variable: str) -> None:
    """For a server without a token, which serves this machine: a page that a browser here shows must not pass for it.

    Raises `Problem` (403), which names the `variable` of the token.
    """
    host = headers.get(b"host", b"").decode("latin-1").rpartition(":")
    name = host[0] if host[2].isdigit() else "".join(host)
    if name.lower() not in _LOOPBACK:
        raise Problem(403, f"host {name[:80]!r}; expected localhost, or a token ({variable})")


def check_body(headers: Headers, most: int, kind: bytes) -> None:
    """Raises `Problem`: a body of more than `most` bytes (413), or of another content type than `kind` (415)."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > most:
        raise Problem(413, f"a body of {length[:20].decode('latin-1')} bytes; expected at most {most:,}")
    has_body = length != b"0" or b"transfer-encoding" in headers
    sent = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if has_body and sent != kind:
        raise Problem(415, f"content-type {sent[:80].decode('latin-1')!r}; expected {kind.decode()}")


def limited(receive: Receive, most: int) -> Receive:
    """`receive` that raises a `Problem` (413) after `most` bytes, whatever the headers said."""
    taken = 0

    async def limited_receive() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise Problem(413, f"a body of more than {most:,} bytes; expected at most so many")
        return message

    return limited_receive


def answer_of(problem: Problem) -> Response:
    """The response that says what is wrong."""
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
    return Response(json.dumps(problem.body()), problem.status, headers, MEDIA_TYPE)


class LimitedHead(HttpToolsProtocol):
    """Ends a connection whose headers do not end: they would be held in memory before anybody asks for a token."""

    _in_head, _head = True, 0

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._in_head, self._head = False, 0
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of several."""
        super().data_received(data)
        self._head = self._head + len(data) if self._in_head else 0
        if self._head > MOST_BYTES_OF_HEAD and not self.transport.is_closing():
            self.transport.close()
