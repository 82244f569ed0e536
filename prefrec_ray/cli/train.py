"""`prefrec train`: trains a policy; a run holds learning curves, checkpoints and the policy."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefrec_ray.cli.console import Config, console, made
from prefrec_ray.cli.progress import Report, progress
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.evaluation.validation import Judge
    from prefrec_ray.runs.settings import TrainSettings


def command(
    config: Config,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="Settings that override CONFIG, as in gamma=0.95 recipe=paper."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="DATASET", show_default="`dataset` of CONFIG", help="Prepared data set."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="RUN", show_default="runs/METHOD_RECIPE_TASK_SEED", help="New folder for the run."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the run's last checkpoint.")] = False,
) -> None:
    """Train a policy (section `train`)."""
    from prefrec_ray.cli.config import open_section

    settings = open_section(config, "train", overrides or ())
    dataset = dataset or settings.dataset
    if dataset is None:
        raise UserError(f"{config}: train: key 'dataset' is missing; name the data set there or by --dataset DATASET")
    output = output or f"runs/{settings.method.rpartition(':')[2]}_{settings.recipe}_{settings.task}_{settings.seed}"
    train_run(settings, dataset, output, resume, where=f"{config}: train")
    made("run", output, f"prefrec evaluate {quote(output + '/policy')} --dataset {quote(dataset)}")


def train_run(
    settings: TrainSettings, dataset: str, output: str, resume: bool, where: str, stage: str = "train: iterations"
) -> None:
    """Trains, with a progress bar over the iterations."""
    from prefrec_ray import runtime, storage
    from prefrec_ray.people.labeling.teacher import with_votes
    from prefrec_ray.runs.train import check_output, train

    out = console()
    uri = storage.absolute(dataset)  # workers may run in another folder
    with progress(out) as report:
        settings = settings.model_copy(update={"config": with_votes(settings.config, uri, report)})
        check_output(settings, uri, output, resume)  # now: it should not cost the scores' preparation
        report(stage, 0, 0, "starting")
        runtime.start_ray()
        judge = judge_of(settings, uri, out.print)
        train(settings, uri, output, resume, lambda row: show_row(report, stage, row), where, judge, out.print)


def judge_of(settings: TrainSettings, uri: str, say: Callable[[str], None]) -> Judge | None:
    """Who scores the run, or None. Validation is on by default, and off where a data set is too small for it, as `say`
    is told; what the section itself asks for is never left out.

    Raises `UserError`, as `Judge.prepare` does.
    """
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.evaluation.histories import too_short
    from prefrec_ray.evaluation.validation import Judge

    if settings.validation is None:
        return None
    if "validation" not in settings.model_fields_set:
        short = too_short(PreparedDataset.open(uri), ["train", "validation"])
        if short is not None:
            say(f"no scores on validation users: {short}")
            return None
    return Judge.prepare(uri, settings.validation, [settings.task], settings.config.get("teachers"))


def show_row(report: Report, stage: str, row: dict[str, Any]) -> None:
    """Shows a row of a run as progress."""
    iterations = round(row["training_iteration"] / row["progress"])
    if row["phase"] == "pretrain":
        note = f"reward, {row['pairs_per_second']:,.0f} pairs/s"
    else:
        note = f"{row['transitions_per_second']:,.0f} transitions/s"
    report(stage, row["training_iteration"], iterations, note)
