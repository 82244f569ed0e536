"""`prefrec evaluate`: estimates the value of policies, beside controls and negative controls, and gives a verdict."""

from __future__ import annotations

import posixpath
from shlex import quote
from typing import Annotated

import typer

from prefrec_ray.cli.console import Dataset, console, made
from prefrec_ray.cli.progress import progress
from prefrec_ray.cli.summary import summary
from prefrec_ray.cli.verdicts import reasons, unweighed, verdict_table
from prefrec_ray.errors import UserError, nearest

SPLITS = ("validation", "test")
#: The exit status of `--strict` where a policy is no candidate; 2 is for mistakes.
NOT_ALL_CANDIDATES = 1


def command(
    policies: Annotated[
        list[str],
        typer.Argument(metavar="POLICY...", help="Policy bundles (RUN/policy), or a SWEEP for all its policies."),
    ],
    dataset: Dataset,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="SPLIT", show_default="test", help="Split to evaluate: test or validation."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also roll out the policies in the simulator that made the logs.")
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section `evaluate`.")
    ] = None,
    estimators: Annotated[
        str | None,
        typer.Option(
            "--estimators",
            metavar="LIST",
            show_default="model,ncis",
            help="Comma-separated list of model, ncis, weights, fqe and dr.",
        ),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also plot ncis and dr over kernel width and cap (sensitivity.html).")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with status 1 unless the verdict on every policy is candidate (a mistake is status 2).",
        ),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", show_default="evaluation.json beside the policies", help="JSON file to write."
        ),
    ] = None,
) -> None:
    """Evaluate policies on logged sessions, with intervals, controls and negative controls, and give each a verdict."""
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
    from prefrec_ray.evaluation.settings import EvaluateSettings
    from prefrec_ray.evaluation.verdict import vouched

    settings = open_section(config, "evaluate") if config else EvaluateSettings()
    if split is not None:
        if split not in SPLITS:
            raise UserError(f"--split: unknown split '{split}'; expected one of {', '.join(SPLITS)}")
        settings = settings.model_copy(update={"split": split})
    if estimators is not None:
        settings = settings.model_copy(update={"estimators": parse_estimators(estimators)})
    run = EvaluationRun(policies, dataset, settings, online, sensitivity, output)
    with progress(console()) as report:
        evaluation = run_evaluation(run, report)
    folder = posixpath.dirname(run.file) or "."
    if sensitivity:
        from prefrec_ray.reports.sensitivity import write_sensitivity  # a second of imports

        write_sensitivity(evaluation, posixpath.join(folder, "sensitivity.html"))
    shown = vouched(evaluation)
    for task in shown.tasks:
        console().print(summary(shown, task))
        console().print()
    console().print(verdict_table(evaluation))
    for line in [*reasons(evaluation), *(unweighed(evaluation) if "weights" in settings.estimators else [])]:
        console().print(line)
    made("evaluation", run.file, f"prefrec report {quote(folder)}")
    if strict and any(verdict.verdict != "candidate" for verdict in evaluation.verdicts.values()):
        raise typer.Exit(NOT_ALL_CANDIDATES)


def parse_estimators(text: str) -> tuple[str, ...]:
    """The names in `text`, each once. Raises `UserError` for an unknown one."""
    from prefrec_ray.evaluation.settings import ESTIMATORS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ESTIMATORS:
            raise UserError(f"--estimators: unknown estimator '{name}'; {nearest(name, list(ESTIMATORS))}")
    return names
