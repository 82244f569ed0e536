"""`prefrec tune`: a sweep (grid, ablation or search) with parallel trials on one copy of the data."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefrec_ray.cli.console import console, made
from prefrec_ray.cli.progress import loading, progress
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.runs.tuning.settings import TuneSettings


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML file or URI.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="DATASET", show_default="`dataset` of FILE", help="Prepared data set."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="SWEEP", show_default="sweeps/NAME of FILE", help="New folder for the sweep."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the sweep in SWEEP.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run all trials of FILE at a hundredth of their length.")
    ] = False,
) -> None:
    """Run a grid, an ablation or a search (section `tune`)."""
    with loading(console()):
        from prefrec_ray import storage
        from prefrec_ray.annotation.page.teacher import with_votes
        from prefrec_ray.cli.config import open_section
        from prefrec_ray.runs.tuning.run import prepare_sweep, run_sweep

    settings = open_section(file, "tune")
    dataset = dataset or settings.dataset
    if dataset is None:
        raise UserError(f"{file}: tune: key 'dataset' is missing; name the data set there or by --dataset DATASET")
    name = posixpath.basename(file).removesuffix(".yaml") + ("_smoke" if smoke else "")
    output = output or storage.join("sweeps", name)
    with storage.claimed(output):
        with progress(console()) as report:
            base = with_votes(settings.base, storage.absolute(dataset), report)
            settings = settings.model_copy(update={"base": base})
            plan = prepare_sweep(settings, dataset, output, resume, smoke, report, f"{file}: tune")
        run_sweep(plan, output, resume, lambda rows: _show(rows, plan.settings, output))
    made("sweep", output, f"prefrec evaluate {quote(output)} --dataset {quote(dataset)}")


def _show(rows: Sequence[dict[str, Any]], settings: TuneSettings, output: str) -> None:
    """Print all trials, then the best settings of each task."""
    from prefrec_ray.runs.tuning.progress import final_table, parameters
    from prefrec_ray.runs.tuning.results import best_settings

    out = console()
    out.print(final_table(rows, settings))
    stopped = sum(row["status"] == "stopped" for row in rows)
    note = f", {stopped} stopped early" if stopped else ""
    out.print(f"{len(rows)} trials{note}: {output}/trials.csv")
    for task, best in best_settings(rows, settings).items():
        row = best.rows[0]
        out.print(f"best for {task}: {row['trial']}, {best.metric} {best.mean:.4g} ({best.seeds})")
        for line in parameters(row, settings):
            out.print(f"  {line}")
        out.print(f"  policy: {output}/policies/{row['trial']}")
