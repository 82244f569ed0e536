"""Commands for training: `prefrec train`, `tune` and `export`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prefrec_ray.cli.console import Config, console, loading, made, pasteable, progress
from prefrec_ray.errors import UserError, need

if TYPE_CHECKING:
    from prefrec_ray.runs.tuning.settings import TuneSettings


def train(
    config: Config,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="Settings that override CONFIG, as in gamma=0.95 recipe=paper."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="DATASET", show_default="`dataset` of CONFIG", help="Prepared data set.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="RUN", show_default="runs/METHOD_RECIPE_TASK_SEED", help="New folder for the run."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the run's last checkpoint.")] = False,
) -> None:
    """Train a policy (section `train`). The guard-rails and sizes of `evaluate`, if any, apply to its serving rule."""
    from prefrec_ray.cli.config import dataset_of, load_sections, open_section, open_tracking

    settings, tracking = open_section(config, "train", overrides or ()), open_tracking(config)
    its = config if "evaluate" in load_sections(config) else None
    evaluation = open_section(its, "evaluate")
    dataset = dataset_of(dataset, settings, f"{config}: train")
    output = output or f"runs/{settings.method.rpartition(':')[2]}_{settings.recipe}_{settings.task}_{settings.seed}"
    out = console()
    with loading(out):
        from prefrec_ray import storage
        from prefrec_ray.annotation.page.create import with_votes
        from prefrec_ray.runs.tracking import Tracking
        from prefrec_ray.runs.train import start_run
    with progress(out) as report:
        votes = with_votes(settings.config, storage.absolute(dataset))
        settings = settings.model_copy(update={"config": votes})
        where, tracked = f"{config}: train", Tracking(tracking, output, say=out.print)
        start_run(settings, dataset, output, resume, report, out.print, where, evaluation, tracked)
    made("run", output, pasteable("evaluate", f"{output}/policy", "--dataset", dataset, config=its))


def tune(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML file or URI.")],
    dataset: Annotated[
        str | None, typer.Option(metavar="DATASET", show_default="`dataset` of FILE", help="Prepared data set.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="SWEEP", show_default="sweeps/NAME of FILE", help="New folder for the sweep.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the sweep in SWEEP.")] = False,
) -> None:
    """Run a grid, an ablation or a search (section `tune`)."""
    out = console()
    with loading(out):
        from prefrec_ray import storage
        from prefrec_ray.annotation.page.create import with_votes
        from prefrec_ray.cli.config import dataset_of, open_section, open_tracking
        from prefrec_ray.runs.tuning.run import sweep

    settings, tracking = open_section(file, "tune"), open_tracking(file)
    dataset = dataset_of(dataset, settings, f"{file}: tune")
    output = output or storage.join("sweeps", posixpath.basename(file).removesuffix(".yaml"))
    with progress(out) as report:
        base = with_votes(settings.base, storage.absolute(dataset))
        settings = settings.model_copy(update={"base": base})
        show = partial(_show, settings=settings, output=output, out=out)
        sweep(settings, dataset, output, resume, report, out.print, show, f"{file}: tune", tracking)
    made("sweep", output, pasteable("evaluate", output, "--dataset", dataset))


def _show(rows: Sequence[dict[str, Any]], settings: TuneSettings, output: str, out: Console) -> None:
    """Print the best settings of each task."""
    from prefrec_ray.runs.tuning.results import best_settings

    stopped = sum(row["status"] == "stopped" for row in rows)
    note = f", {stopped} stopped early" if stopped else ""
    out.print(f"{len(rows)} trials{note}: {output}/trials.csv")
    for task, best in best_settings(rows, settings).items():
        row = best.rows[0]
        out.print(f"best for {task}: {row['trial']}, {best.metric} {best.mean:.4g} ({best.seeds})")
        for line in _searched(row, settings):
            out.print(f"  {line}")
        out.print(f"  policy: {output}/policies/{row['trial']}")


def _searched(row: dict[str, Any], settings: TuneSettings) -> list[str]:
    """Return the searched keys of a trial's method, with their values."""
    values = {key: row[key] for key in settings.spaces_of(row["method"])}
    return [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()]


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Checkpoint of a run, as RUN/checkpoint_000012; for onnx a POLICY.",
        ),
    ],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="New folder for the result.")],
    kind: Annotated[str, typer.Option("--format", metavar="bundle|onnx", help="Format of the result.")] = "bundle",
) -> None:
    """Make a policy bundle from a training checkpoint, or ONNX files from a bundle."""
    if kind == "onnx":
        need("onnx", "onnx", where="--format onnx")
        from prefrec_ray.policy import Policy
        from prefrec_ray.policy.onnx_export import export_onnx

        files = export_onnx(Policy.load(checkpoint), output)
        made(" and ".join(files), output, "docs/deploy.md describes inputs and outputs")
        return
    if kind != "bundle":
        raise UserError(f"--format: found '{kind}'; expected one of bundle, onnx")
    from prefrec_ray.runs.export import export_policy

    policy = export_policy(checkpoint, output)
    made("policy", output, pasteable("evaluate", output, "--dataset", policy.provenance["dataset"]))
