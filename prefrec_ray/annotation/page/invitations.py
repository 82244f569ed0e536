"""Signed links and cookies, by which the server recognizes annotators and the admin."""

from __future__ import annotations

import hashlib
import hmac
import time

from itsdangerous import BadSignature, URLSafeSerializer

#: The name of the admin; no annotator can have it.
ADMIN = "@admin"


class Signer:
    """Signs with the store's secret; a signature for one use is invalid for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def invitation(self, name: str, expires: float) -> str:
        """Return the part of a link that invites `name` until `expires` (seconds since 1970)."""
        return self._of("invitation").dumps([name, expires])

    def invited(self, text: str) -> tuple[str, float] | None:
        """Return name and end of an invitation; None if this server did not sign it, or it has expired."""
        return self._valid("invitation", text)

    def session(self, name: str, expires: float) -> str:
        """Return a cookie's value."""
        return self._of("session").dumps([name, expires])

    def who(self, cookie: str | None) -> tuple[str, float] | None:
        """Return name and end of the session of a cookie; None as in `invited`."""
        return self._valid("session", cookie) if cookie else None

    def form_token(self, cookie: str) -> str:
        """Return the token of the forms of a session, which pages of other sites do not have."""
        return hmac.new(self._secret.encode(), b"form " + cookie.encode(), hashlib.sha256).hexdigest()

    def same(self, sent: str, expected: str) -> bool:
        """Compare two tokens in constant time."""
        return hmac.compare_digest(sent.encode(), expected.encode())

    def pseudonym(self, kind: str, name: object) -> str:
        """Return a short code that identifies a thing without its name."""
        digest = hmac.new(self._secret.encode(), f"{kind} {name!r}".encode(), hashlib.sha256).digest()
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:4])

    def _of(self, use: str) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt=f"prefrec label {use}")

    def _valid(self, use: str, text: str) -> tuple[str, float] | None:
        try:
            name, expires = self._of(use).loads(text)
        except (BadSignature, ValueError, TypeError):
            return None
        return (name, expires) if expires > time.time() else None


_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # without letters that look alike
