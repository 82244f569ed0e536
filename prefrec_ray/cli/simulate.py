"""`prefrec simulate`: interaction logs of a simulated short-video platform with known true levels."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from prefrec_ray.cli.console import Config, console, made
from prefrec_ray.cli.progress import progress


def command(
    config: Config,
    output: Annotated[str, typer.Option("--output", metavar="LOGS", help="New folder for the logs.")],
) -> None:
    """Make interaction logs with the simulator (section `simulate`)."""
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.simulator.write import simulate

    settings = open_section(config, "simulate")

    with progress(console()) as report:
        simulate(settings, output, report)
    made("logs", output, f"prefrec prepare {quote(config)} --output DATASET")
