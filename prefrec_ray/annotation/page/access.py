"""Access to the page: checks before every route, and signed links and cookies of annotators and the admin."""

from __future__ import annotations

import hmac
import time
from typing import Any, Literal

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

TOKEN = "PREFREC_LABEL_TOKEN"
#: The name of the admin; no annotator can have it.
ADMIN = "@admin"
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # without letters that look alike
_MOST_BYTES = 1 << 14
_HEADERS = {
    # No file is loaded from other sites, and pages contain no scripts, so that names of items cannot run as a script.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # links contain invitations
    "cache-control": "no-store",
}

Use = Literal["invitation", "session"]


class Signer:
    """Signs with the store's secret; a signature for one use is invalid for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def sign(self, use: Use, name: str, expires: float) -> str:
        """Return the end of a link, or a cookie's value, for `name` until `expires` (seconds since 1970)."""
        return self._serializer(use).dumps([name, expires])

    def read(self, use: Use, text: str | None) -> tuple[str, float] | None:
        """Return name and end of a signed text; None if this server did not sign it, or it has expired."""
        try:
            name, expires = self._serializer(use).loads(text or "")
        except (BadSignature, ValueError, TypeError):
            return None
        return (name, expires) if expires > time.time() else None

    def code(self, item: object) -> str:
        """Return a short code that identifies an item without its name."""
        digest = hmac.digest(self._secret.encode(), f"item {item!r}".encode(), "sha256")
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:4])

    def _serializer(self, use: Use) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt=f"prefrec label {use}")


class FormGuard:
    """Refuses other hosts without a token, forms of other sites, and bodies other than small forms.

    Headers of replies restrict the browser's use of them.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        state: dict[str, Any] = scope.setdefault("state", {})
        state["has_token"] = has_token(headers, self._token)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            if self._token is None:
                check_host(headers, TOKEN)
            if not state["has_token"]:
                check_origin(scope["method"], headers)
            check_body(headers, _MOST_BYTES, b"application/x-www-form-urlencoded")
            await self._app(as_get(scope), limited(receive, _MOST_BYTES), guarded)
        except Problem as problem:
            await answer_of(problem)(scope, receive, guarded)
