"""`prefrec rollback`: the policy before the current one is current again."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import made


def command(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of the loop (`loop.folder`).")],
) -> None:
    """Put back the policy that was current before; called again, the one before that."""
    from prefrec_ray import storage
    from prefrec_ray.nightly.folder import LoopFolder

    loop = LoopFolder(storage.absolute(folder))
    gone, current = loop.back()
    made("current", f"the policy of night {current}", "POST /reload to what serves it", f" (was that of night {gone})")
