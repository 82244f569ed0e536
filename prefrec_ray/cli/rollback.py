"""`prefrec rollback`: return to the previous policy."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console, made


def command(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of the loop (`loop.folder`).")],
) -> None:
    """Return to the policy before the current one. A second call goes back one more."""
    from prefrec_ray import storage
    from prefrec_ray.nightly.folder import LoopFolder

    done = LoopFolder(storage.absolute(folder)).back()
    for why in done.skipped:
        console().print(f"skipped {why}")
    made("rolled back", f"from night {done.before} to night {done.after}", "POST /reload to the server of `current`")
