"""Signed links and cookies: who somebody is, said by the server to itself."""

from __future__ import annotations

import hashlib
import hmac
import time

from itsdangerous import BadSignature, URLSafeSerializer

#: The name of who looks after the store; no annotator is called so.
ADMIN = "@admin"


class Signer:
    """Signs with the store's secret; what is signed for one use is not valid for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def invitation(self, name: str, expires: float) -> str:
        """What a link holds for `name`, until `expires` (seconds since 1970)."""
        return self._of("invitation").dumps([name, expires])

    def invited(self, text: str) -> tuple[str, float] | None:
        """Name and end of an invitation; None where it is not this server's, or has ended."""
        return self._valid("invitation", text)

    def session(self, name: str, expires: float) -> str:
        """A cookie's value."""
        return self._of("session").dumps([name, expires])

    def who(self, cookie: str | None) -> str | None:
        """Whose cookie this is; None as of `invited`."""
        session = self._valid("session", cookie) if cookie else None
        return None if session is None else session[0]

    def form_token(self, cookie: str) -> str:
        """What the forms of a session carry, so that no other page can send them."""
        return hmac.new(self._secret.encode(), b"form " + cookie.encode(), hashlib.sha256).hexdigest()

    def same(self, sent: str, expected: str) -> bool:
        """Whether two tokens are equal, in a time that does not say how far."""
        return hmac.compare_digest(sent.encode(), expected.encode())

    def pseudonym(self, kind: str, name: object) -> str:
        """A short code that tells things apart without naming them."""
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


_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # none that are taken for another
