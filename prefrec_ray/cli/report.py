"""`prefrec report`: one HTML page about one or several runs."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console, made
from prefrec_ray.cli.progress import progress


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or folders of runs.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE.html", show_default="report.html in the first RUN", help="Page to write."
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page: settings, learning curves, evaluation with controls."""
    from prefrec_ray import storage
    from prefrec_ray.reports.page import write_report
    from prefrec_ray.runtime.progress import step

    output = output or storage.join(runs[0], "report.html")
    with progress(console()) as report, step(report, "draw the page"):
        write_report(runs, output)
    made("report", output, "open it in a browser (one file, works offline)")
