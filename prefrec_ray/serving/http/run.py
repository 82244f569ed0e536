"""Process of `prefrec serve`: address, token and shutdown."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.http.app import TOKEN, make_app
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.run import checked_token, listening, run_app, url_of


def serve(
    policy: str, folder: str, settings: ServeSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or Ctrl-C. `say` prints lines about repairs in `folder`, and the address.

    Raises `UserError` for an address other than loopback without a token, for an address in use, and as `Opened` does.
    """
    token = checked_token(host, TOKEN)
    with listening(host, port) as listener:
        opened = Opened(policy, folder, settings)
        for note in opened.notes:
            say(note)
        app = make_app(Server(opened), token)
        settle()
        say(f"serving on {url_of(host, listener)} (users: {len(opened.state.users):,})")
        run_app(app, listener)


def settle() -> None:
    """Prepare this process for many small HTTP requests, after policies and users are loaded."""
    torch.set_num_threads(1)  # batches are small, and threads would wait for each other
    # Objects made so far stay; garbage collections over all of them would cause pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
