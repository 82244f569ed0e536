"""Commands of the public bench: `prefrec bench run` and `prefrec bench table`."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console, loading, made, pasteable, progress

bench = typer.Typer(help="Compare submissions in worlds with known laws, by true levels.", no_args_is_help=True)


@bench.command()
def run(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of worlds and results; a run resumes.")],
    submission: Annotated[str, typer.Option(metavar="NAME", help="Name of a plug-in, or module:function.")],
    worlds: Annotated[
        str, typer.Option(metavar="LIST", help="`public`, or comma-separated worlds or YAML files.")
    ] = "public",
    estimator: Annotated[
        bool, typer.Option("--estimator", help="The submission estimates the gains of given policies.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="FILE", help="An organiser's file with one seed per line.")
    ] = None,
) -> None:
    """Run one submission in every world, and write OUTPUT/SUBMISSION.json after each."""
    with loading(console()):
        from prefrec_ray.bench.run import BenchRun, run_bench
        from prefrec_ray.bench.worlds import DEVELOPMENT, VALIDATION

    names = [*DEVELOPMENT, *VALIDATION] if worlds == "public" else [name.strip() for name in worlds.split(",")]
    own = BenchRun(submission, names, output, estimator, seeds)
    with progress(console()) as report:
        run_bench(own, report)
    made("results", own.file, pasteable("bench", "table", output))


@bench.command()
def table(folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder with results of submissions.")]) -> None:
    """Write FOLDER/results.md: all submissions, the highest mean score first."""
    from prefrec_ray.bench.results import write_tables

    made("tables", write_tables(folder), "read it, or publish it with the seeds")
