"""Process of an HTTP server: address, token, and the run until SIGTERM."""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import partial
from typing import Any

import uvicorn

from prefrec_ray.errors import UserError
from prefrec_ray.web.connections import Connections, LimitedProtocol, Limits

_SHORTEST = 16
#: Seconds after SIGTERM to finish running HTTP requests.
LAST_ANSWERS = 5


def checked_token(host: str, variable: str) -> str | None:
    """Return the token of the environment. Raises `UserError` if `host` is not loopback and no token is set."""
    token = token_of_environment(variable)
    check_address(host, token is not None, variable)
    return token


def check_address(host: str, protected: bool, variable: str) -> None:
    """Check that `host` is loopback if the server is not `protected` by a token. Raises `UserError`."""
    if not protected and not _is_loopback(host):
        raise UserError(
            f"--host {host}: found an address that others can reach; expected a token in {variable}, or 127.0.0.1"
        )


def token_of_environment(variable: str) -> str | None:
    """Return the token in the environment's `variable`, or None. Raises `UserError` if it is too short."""
    token = os.environ.get(variable) or None
    if token is not None and (len(token) < _SHORTEST or not token.isascii() or not token.isprintable()):
        raise UserError(
            f"{variable}: found a token of {len(token)} characters; expected at least {_SHORTEST}, plain ASCII"
        )
    return token


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises `UserError` if the address is in use, invalid, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError, TypeError) as error:  # TypeError: not a valid host name
        listener.close()
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another port") from error
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Return http://HOST:PORT."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def run_app(app: Any, listener: socket.socket) -> None:
    """Serve `app` in this process until SIGTERM or Ctrl-C."""
    make_server(app, Limits().within_files()).run([listener])


def make_server(app: Any, limits: Limits) -> uvicorn.Server:
    """Return a uvicorn server with `limits` for its connections."""
    protocol: Any = partial(LimitedProtocol, register=Connections(limits))
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="error",  # at level warning, each malformed HTTP request would give a line
        access_log=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
