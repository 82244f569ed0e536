"""One process that serves: its address, its token, its end."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from prefrec_ray.serving.app import TOKEN, make_app
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.start import Opened
from prefrec_ray.web.address import checked_token, listening, url_of
from prefrec_ray.web.run import run_app


def serve(
    policy: str, folder: str, settings: ServeSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serves until SIGTERM or Ctrl-C. `say` takes lines: what was mended in `folder`, and the address.

    Raises `UserError`: another address than loopback without a token, an address in use, and what `Opened` raises.
    """
    token = checked_token(host, TOKEN)
    with listening(host, port) as listener:
        opened = Opened(policy, folder, settings)
        for note in opened.notes:
            say(note)
        app = make_app(Server(opened), token)
        settle()
        say(f"serving on {url_of(host, listener)} (users: {len(opened.state.people):,})")
        run_app(app, listener)


def settle() -> None:
    """Readies this process for many small requests, once what it serves is in memory."""
    torch.set_num_threads(1)  # a batch is small: threads would wait for each other
    # What was made up to here stays: to look through all of it for garbage again and again would make pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
