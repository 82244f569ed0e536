"""Runs an app on a listener, until it is told to end."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from prefrec_ray.web.limits import MOST_CONNECTIONS, LimitedHead

#: Seconds after the end was asked for in which answers are given: a client that is lost may never end its request.
LAST_ANSWERS = 5


def run_app(app: Any, listener: socket.socket) -> None:
    """One process, with the limits of limits.py on heads and connections."""
    config = uvicorn.Config(
        app,
        http=LimitedHead,
        limit_concurrency=MOST_CONNECTIONS,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    uvicorn.Server(config).run([listener])
