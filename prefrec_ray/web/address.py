"""Where a server listens: on loopback, or with a token on any address."""

from __future__ import annotations

import ipaddress
import os
import socket

from prefrec_ray.errors import UserError

_SHORTEST = 16


def checked_token(host: str, variable: str) -> str | None:
    """`token_of_environment`. Raises `UserError` where there is none and `host` needs one."""
    token = token_of_environment(variable)
    if token is None and not _is_loopback(host):
        raise UserError(
            f"--host {host}: others may reach it; expected a token in the environment ({variable}), or 127.0.0.1"
        )
    return token


def token_of_environment(variable: str) -> str | None:
    """The token in the environment's `variable`, if there is one. Raises `UserError` where it is too short."""
    token = os.environ.get(variable) or None
    if token is not None and (len(token) < _SHORTEST or not token.isascii() or not token.isprintable()):
        raise UserError(f"{variable}: a token of {len(token)} characters; expected at least {_SHORTEST}, plain ASCII")
    return token


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UserError` for an address that is in use, or none of this machine, or no name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError, TypeError) as error:  # TypeError: no name of a host
        listener.close()
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another port") from error
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """http://HOST:PORT."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
