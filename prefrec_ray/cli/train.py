"""`prefrec train`: a training run with learning curves, checkpoints and the policy."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import Config, console, made, pasteable
from prefrec_ray.cli.progress import loading, progress
from prefrec_ray.errors import UserError


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
    out = console()
    with loading(out):
        from prefrec_ray import storage
        from prefrec_ray.annotation.page.teacher import with_votes
        from prefrec_ray.runs.train import start_run
    with progress(out) as report:
        votes = with_votes(settings.config, storage.absolute(dataset), report)
        settings = settings.model_copy(update={"config": votes})
        start_run(settings, dataset, output, resume, report, out.print, f"{config}: train")
    its = config if "evaluate" in load_sections(config) else None
    made("run", output, pasteable("evaluate", f"{output}/policy", "--dataset", dataset, config=its))
