"""Checks of HTTP requests before every route of the page."""

from __future__ import annotations

from typing import Any

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
_MOST_BYTES = 1 << 14
_HEADERS = {
    # No file is loaded from other sites, and pages contain no inline scripts: names of items cannot run as a script.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # links contain invitations
    "cache-control": "no-store",
}


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
