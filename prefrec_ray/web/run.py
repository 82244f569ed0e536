"""Run of an app on a listener until SIGTERM or Ctrl-C."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import uvicorn

from prefrec_ray.web.connections import Connections, Limits
from prefrec_ray.web.protocol import LimitedProtocol

#: Seconds after SIGTERM to finish running HTTP requests.
LAST_ANSWERS = 5


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
