"""`prefrec train`: a training run with learning curves, checkpoints and the policy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefrec_ray.cli.console import Config, console, made, pasteable
from prefrec_ray.cli.progress import Report, loading, progress
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
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
    from prefrec_ray.cli.config import load_sections, open_section

    settings = open_section(config, "train", overrides or ())
    dataset = dataset or settings.dataset
    if dataset is None:
        raise UserError(f"{config}: train: key 'dataset' is missing; name the data set there or by --dataset DATASET")
    output = output or f"runs/{settings.method.rpartition(':')[2]}_{settings.recipe}_{settings.task}_{settings.seed}"
    train_run(settings, dataset, output, resume, where=f"{config}: train")
    its = config if "evaluate" in load_sections(config) else None
    made("run", output, pasteable("evaluate", f"{output}/policy", "--dataset", dataset, config=its))


def train_run(
    settings: TrainSettings, dataset: str, output: str, resume: bool, where: str, stage: str = "train: iterations"
) -> None:
    """Train with a progress bar over the iterations."""
    out = console()
    with loading(out):
        from prefrec_ray import runtime, storage
        from prefrec_ray.annotation.page.teacher import with_votes
        from prefrec_ray.runs.train import check_output, train

    uri = storage.absolute(dataset)  # workers may run in another folder
    with progress(out) as report:
        settings = settings.model_copy(update={"config": with_votes(settings.config, uri, report)})
        check_output(settings, uri, output, resume)  # before Ray starts
        rows = RowProgress(report, stage)
        report(stage, 0, 0, "starting")
        runtime.start_ray()
        train(settings, uri, output, resume, rows, where, out.print)


class RowProgress:
    """Progress from the rows of a run, with the mean rate in transitions per second so far."""

    def __init__(self, report: Report, stage: str) -> None:
        self._report, self._stage = report, stage
        self._began, self._transitions = time.monotonic(), 0

    def __call__(self, row: dict[str, Any]) -> None:
        """Show the progress after a row."""
        self._transitions += row["transitions"] or 0
        note = f"{self._transitions / max(time.monotonic() - self._began, 1e-9):,.0f} transitions/s"
        iterations = round(row["training_iteration"] / row["progress"])
        self._report(
            self._stage, row["training_iteration"], iterations, "reward" if row["phase"] == "pretrain" else note
        )
