"""The command `prefrec forget`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from prefrec_ray.cli.console import console, loading, made, pasteable
from prefrec_ray.errors import UserError


def forget(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS", help="Folders of servers, loops, data sets, questions, runs and policies."),
    ],
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Id of a user; may be given several times.")
    ] = None,
    users: Annotated[str | None, typer.Option(metavar="FILE", help="File with ids of users, one per line.")] = None,
) -> None:
    """Delete users from event logs, snapshots, data sets and questions, and name the policies trained with them."""
    from prefrec_ray import storage

    lines = storage.read_text(users).splitlines() if users else []
    ids = list(dict.fromkeys(filter(None, map(str.strip, [*(user or []), *lines]))))
    if not ids:
        raise UserError(f"{users or '--user'}: found no id; expected --user ID, or --users FILE with one id per line")
    out = console()
    with loading(out):
        from prefrec_ray.forget import forget
    trained: list[str] = []

    def say(policy: str) -> None:
        if not trained:
            out.print("trained with data of these users, and not changed:")
        trained.append(policy)
        out.print(f"  {policy}")

    removed = forget(paths, ids, say)
    table = Table("removed", "number", box=None, pad_edge=False)
    for kind, number in sorted(removed.items()):
        table.add_row(kind, f"{number:,}")
    if removed:
        out.print(table)
    what = "removed users" if removed else "nothing to remove"
    made(what, f"{len(ids):,} ids, {len(paths)} paths", pasteable("nightly", "CONFIG"))
