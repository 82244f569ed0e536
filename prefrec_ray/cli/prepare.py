"""`prefrec prepare`: logs become a data set of states, transitions and preferences."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import Config, console, made
from prefrec_ray.cli.progress import progress


def command(
    config: Config,
    output: Annotated[str, typer.Option("--output", metavar="DATASET", help="New folder for the data set.")],
) -> None:
    """Turn logs into a data set to train on (section `prepare`)."""
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.prepare import prepare

    settings = open_section(config, "prepare")

    with progress(console()) as report:
        prepare(settings, output, report)
    made("data set", output, f"prefrec train {config} --dataset {output} --output RUN")
