"""The console of the commands, and the arguments that they share."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file or URI.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="DATASET", help="Prepared data set: folder or URI.")]

Host = Annotated[str, typer.Option("--host", help="Address; a token is required except on loopback.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free port.")]
#: The file of a command with defaults for all settings of its section.
OwnConfig = Annotated[
    str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section of this command.")
]

#: The width of a file, a pipe or the log of a job: tables fold at 80 columns otherwise.
_PIPE_WIDTH = 150


def console() -> Console:
    """Return the current standard output, without markup: ids and paths may contain brackets and colons."""
    out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out


def pasteable(*words: str, config: str | None = None) -> str:
    """Return a `prefrec` command with words quoted for a shell, and with `--config` if given."""
    return shlex.join(["prefrec", *words, *(["--config", config] if config else [])])


def made(what: str, where: str, then: str, note: str = "") -> None:
    """Print the last lines of a command: its result, the place of the result, and the next command."""
    out = console()
    out.print(Text.assemble(("✓", "green"), f" {what}: ", (where, "bold"), note))
    out.print(f"  next: {then}", style="dim")
