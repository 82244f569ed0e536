"""Before any route: whose request it is, how large it may be; after it, what a browser may do with the answer."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefrec_ray.web.limits import answer_of, check_body, check_host, has_token, limited
from prefrec_ray.web.problems import Problem

TOKEN = "PREFREC_LABEL_TOKEN"
_MOST_BYTES = 1 << 14
_HEADERS = {
    # Nothing is loaded from elsewhere, and no script stands in a page: what items are called cannot run.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # links hold invitations
    "cache-control": "no-store",
}


class Guard:
    """Refuses other hosts where there is no token, and bodies that are no small form."""

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
            check_body(headers, _MOST_BYTES, b"application/x-www-form-urlencoded")
            await self._app(scope, limited(receive, _MOST_BYTES), guarded)
        except Problem as problem:
            await answer_of(problem)(scope, receive, guarded)
