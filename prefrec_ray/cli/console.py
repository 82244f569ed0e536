"""What the commands print to, and how their arguments are described."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file or URI.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="DATASET", help="Prepared data set: folder or URI.")]


def console() -> Console:
    """Standard output as it is now (tests and pipes replace it)."""
    return Console(soft_wrap=True, highlight=False)


def made(what: str, where: str, then: str) -> None:
    """The last lines of every command: what was made, where, and what to run next."""
    out = console()
    out.print(f"[green]✓[/green] {what}: [bold]{where}[/bold]")
    out.print(f"  next: {then}", style="dim", markup=False)
