"""One process that serves: its address, its token, its end."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Callable

import torch
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prefrec_ray.errors import UserError
from prefrec_ray.serving.app import make_app
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.start import Opened

TOKEN = "PREFREC_SERVE_TOKEN"
_SHORTEST = 16
#: Bytes of the headers of a request, and requests and connections at a time.
MOST_BYTES_OF_HEAD, MOST_CONNECTIONS = 1 << 16, 2_000


def serve(
    policy: str, folder: str, settings: ServeSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serves until SIGTERM or Ctrl-C. `say` takes lines: what was mended in `folder`, and the address.

    Raises `UserError`: another address than loopback without a token, an address in use, and what `Opened` raises.
    """
    token = checked_token(host)
    with listening(host, port) as listener:
        opened = Opened(policy, folder, settings)
        for note in opened.notes:
            say(note)
        app = make_app(Server(opened), token)
        settle()
        shown = f"[{host}]" if ":" in host else host
        say(f"serving on http://{shown}:{listener.getsockname()[1]} (users: {len(opened.state.people):,})")
        config = uvicorn.Config(
            app,
            http=LimitedHead,
            limit_concurrency=MOST_CONNECTIONS,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
        )
        uvicorn.Server(config).run([listener])


def settle() -> None:
    """Readies this process for many small requests, once what it serves is in memory."""
    torch.set_num_threads(1)  # a batch is small: threads would wait for each other
    # What was made up to here stays: to look through all of it for garbage again and again would make pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


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


def checked_token(host: str) -> str | None:
    """`token_of_environment`. Raises `UserError` where there is none and `host` needs one."""
    token = token_of_environment()
    if token is None and not _is_loopback(host):
        raise UserError(
            f"--host {host}: others may reach it; expected a token in the environment ({TOKEN}), or 127.0.0.1"
        )
    return token


def token_of_environment() -> str | None:
    """The token of the environment, if there is one. Raises `UserError` where it is too short."""
    token = os.environ.get(TOKEN) or None
    if token is not None and (len(token) < _SHORTEST or not token.isascii() or not token.isprintable()):
        raise UserError(f"{TOKEN}: a token of {len(token)} characters; expected at least {_SHORTEST}, plain ASCII")
    return token


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UserError` for an address that is in use, or none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another port") from error
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
