"""The process of `prefrec label`: address, token, end."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files

from prefrec_ray import storage
from prefrec_ray.annotation.page.app import ADMIN_HOURS, Labeling, make_app
from prefrec_ray.annotation.page.desk import Desk
from prefrec_ray.annotation.page.guard import TOKEN
from prefrec_ray.annotation.page.invitations import ADMIN, Signer
from prefrec_ray.annotation.page.items import Items
from prefrec_ray.annotation.page.settings import LabelSettings
from prefrec_ray.errors import UserError
from prefrec_ray.web.run import checked_token, listening, run_app, url_of


def serve(
    folder: str, dataset: str, settings: LabelSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serve the store `folder` of the data set with the URI `dataset` until SIGTERM or Ctrl-C.

    `say` prints the address and a link for the admin. Raises `UserError`: an address other than loopback without a
    token, an address in use, a store that another process serves, a store of another data set, and errors of `Desk`.
    """
    token = checked_token(host, TOKEN)
    with listening(host, port) as listener, storage.claimed(folder):
        desk = Desk(folder, settings, time.time)
        if desk.store.about["dataset"] != dataset:
            raise UserError(
                f"{folder}: the store is of {desk.store.about['dataset']}, found {dataset}; expected another --store"
            )
        signer = Signer(desk.store.about["secret"])
        guide = (
            storage.read_text(settings.guidelines)
            if settings.guidelines
            else files("prefrec_ray.annotation.page").joinpath("guidelines.md").read_text("utf-8")
        )
        app = make_app(Labeling(desk, signer, Items(settings.items, signer.pseudonym), guide), token)
        url = url_of(host, listener)
        say(f"labeling on {url} (pairs: {len(desk.pairs):,}, votes: {desk.votes:,})")
        say(f"admin: {url}/enter/{signer.invitation(ADMIN, time.time() + 3600 * ADMIN_HOURS)}")
        run_app(app, listener)
