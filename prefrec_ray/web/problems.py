"""Errors of HTTP requests, and the checks of headers and bodies that raise them."""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from prefrec_ray.errors import first_problem

MEDIA_TYPE = "application/problem+json"
_READING = ("GET", "HEAD", "OPTIONS")

Headers = Mapping[bytes, bytes]


class Problem(Exception):
    """Error reply with `status`, one line `found X; expected Y`, and additional HTTP `headers`."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, " ".join(detail.split()), headers

    def body(self) -> dict[str, Any]:
        """Return the members of the JSON object. The type `about:blank` means: only the status defines the problem."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Put `prefix`, the key of an entry in a list, before the detail of a problem."""
    try:
        yield
    except Problem as problem:
        raise Problem(problem.status, prefix + problem.detail, problem.headers) from problem


def of_validation(error: ValidationError, model: type[BaseModel]) -> Problem:
    """Return the first error in a body as a problem: 400 for invalid JSON, 422 for JSON that does not match `model`."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem(400, first["msg"])
    return Problem(422, first_problem(error, model, {}))


def has_token(headers: Headers, token: str | None) -> bool:
    """Return True if the HTTP request has the bearer token; False if the server has no token."""
    scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
    return (
        token is not None and scheme.lower() == b"bearer" and hmac.compare_digest(sent.strip(), token.encode().strip())
    )


def check_host(headers: Headers, variable: str) -> None:
    """Check that the header `Host` names this machine, on a server without a token.

    A page of another site may send requests to a name that points to this machine (DNS rebinding). Raises `Problem`
    (403), which names the environment `variable` of the token.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    parts = re.fullmatch(r"(?:\[(?P<v6>.*)\]|(?P<name>[^:]*))(?::\d+)?", host)
    if parts is None or not is_loopback(parts["v6"] or parts["name"] or ""):
        raise Problem(403, f"host: found {host[:80]!r}; expected localhost, or a token ({variable})")


def is_loopback(host: str) -> bool:
    """Return True if `host`, a name or an IP address, is an address of this machine that others cannot reach."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_origin(method: str, headers: Headers) -> None:
    """Raise `Problem` (403) for a changing HTTP request that a browser sends for a page of another site.

    By the rule of Go's `http.CrossOriginProtection`: `Sec-Fetch-Site` decides if it is sent, otherwise a comparison of
    `Origin` with `Host`. Programs other than browsers send neither.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if method in _READING or site in (b"same-origin", b"none") or (site is None and origin is None):
        return
    host = headers.get(b"host", b"")
    if site is None and origin is not None and origin.partition(b"://")[2].lower() == host.lower() != b"":
        return
    found = f"origin {(origin or b'')[:80].decode('latin-1')!r}"
    found += f" (sec-fetch-site {site[:80].decode('latin-1')!r})" if site else ""
    raise Problem(403, f"{found}; expected a page of this server, or no browser")


def check_body(headers: Headers, most: int, kind: bytes) -> None:
    """Check the headers of a body.

    Raises `Problem`: more than `most` bytes (413), a content type other than `kind` (415). The content type is also
    checked without a body. (Browsers send forms and plain text to other sites without a CORS preflight.)
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > most:
        raise Problem(413, f"found a body of {length[:20].decode('latin-1')} bytes; expected at most {most:,}")
    has_body = length != b"0" or b"transfer-encoding" in headers or b"content-type" in headers
    sent = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if has_body and sent != kind:
        raise Problem(415, f"content-type {sent[:80].decode('latin-1')!r}; expected {kind.decode()}")


def limited(receive: Receive, most: int) -> Receive:
    """Return a `receive` that raises a `Problem` (413) after `most` bytes, even if the headers announce fewer."""
    taken = 0

    async def limited_receive() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise Problem(413, f"found a body of more than {most:,} bytes; expected a smaller one")
        return message

    return limited_receive


def as_get(scope: Scope) -> Scope:
    """Return `scope` with the method `GET` instead of `HEAD`. The HTTP server keeps the old scope and sends no body."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def answer_of(problem: Problem) -> Response:
    """Return the response that reports a problem."""
    return Response(json.dumps(problem.body()), problem.status, problem.headers, MEDIA_TYPE)
