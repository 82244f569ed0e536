"""What the commands print to, and how their arguments are described."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file or URI.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="DATASET", help="Prepared data set: folder or URI.")]


def console() -> Console:
    """Standard output as it is now (tests and pipes replace it).

    Square brackets and colons are letters like others: ids and paths may hold them.
    """
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def made(what: str, where: str, then: str, note: str = "") -> None:
    """The last lines of every command: what was made, where, and what to run next."""
    out = console()
    out.print(Text.assemble(("✓", "green"), f" {what}: ", (where, "bold"), note))
    out.print(f"  next: {then}", style="dim")
