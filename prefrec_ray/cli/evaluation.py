"""Commands for evaluation: `prefrec evaluate`, `constrain`, `report`, `bench run` and `bench table`."""

from __future__ import annotations

import posixpath
from typing import Annotated

import typer

from prefrec_ray.cli.console import Dataset, OwnConfig, console, loading, made, pasteable, progress
from prefrec_ray.cli.verdicts import rails_table, reasons, summary, tried_table, verdict_table
from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import guard_rails

bench = typer.Typer(help="Compare submissions in worlds with known laws, by true levels.", no_args_is_help=True)
#: Exit status of `--strict` if a verdict is not `candidate`; status 2 is a user error.
NOT_ALL_CANDIDATES = 1


def evaluate(
    policies: Annotated[
        list[str],
        typer.Argument(metavar="POLICY...", help="Policy bundles (RUN/policy), or a SWEEP for all its policies."),
    ],
    dataset: Dataset,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", show_default="test", help="Split to evaluate: test or validation.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also roll out the policies in the simulator that made the logs.")
    ] = False,
    config: OwnConfig = None,
    estimators: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            show_default="model,ncis",
            help="Comma-separated list of model, ncis, weights, sips, rips, iips, fqe and dr.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with status 1 unless every verdict is candidate (status 2: an error)."),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", show_default="evaluation.json next to the policies", help="JSON file to write."),
    ] = None,
) -> None:
    """Evaluate policies on logged sessions, with intervals, controls and negative controls, and give each a verdict."""
    with loading(console()):
        from prefrec_ray.cli.config import open_section
        from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
        from prefrec_ray.settings import parse

    settings = open_section(config, "evaluate")
    names = None if estimators is None else [name.strip() for name in estimators.split(",")]
    for key, value in {"split": split, "estimators": names}.items():
        if value is not None:
            settings = parse(type(settings), {**settings.model_dump(), key: value}, f"--{key}")
    run = EvaluationRun(policies, dataset, settings, online, output)
    with progress(console()) as report:
        evaluation = run_evaluation(run, report)
    for task in evaluation.tasks:
        console().print(summary(evaluation, task))
        console().print()
    console().print(verdict_table(evaluation))
    if evaluation.guard_rails:
        console().print(rails_table(evaluation))
    for line in reasons(evaluation):
        console().print(line)
    folder = posixpath.dirname(run.file) or "."
    made("evaluation", run.file, pasteable("report", folder if output else run.folder))
    if strict and any(verdict.verdict != "candidate" for verdict in evaluation.verdicts.values()):
        raise typer.Exit(NOT_ALL_CANDIDATES)


def constrain(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Policy bundle, RUN/policy.")],
    dataset: Dataset,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="New folder for the policy bundle.")],
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", help="YAML with the section `evaluate` (sizes of its model, guard-rails)."),
    ] = None,
) -> None:
    """Choose the serving rule with the surest gain, by roll-outs in models of validation users, without training."""
    with loading(console()):
        from prefrec_ray import storage
        from prefrec_ray.cli.config import open_section
        from prefrec_ray.evaluation.selection.serving_rule import choose_rule
        from prefrec_ray.policy import Policy

    if storage.exists(output):
        raise UserError(f"{output}: already exists; choose another output folder or remove this one")
    settings = open_section(config, "evaluate")
    loaded = Policy.load(policy)
    with progress(console()) as report:
        rails = guard_rails(settings.guard_rails)
        chosen = choose_rule(
            loaded, storage.absolute(dataset), report, policy, settings.model, rails=rails, by="lower end"
        )
    chosen.policy.save(output)
    console().print(tried_table(chosen))
    if chosen.broken:
        console().print(f"Every tried rule breaks a guard-rail (the chosen one: {chosen.broken}).")
    made("policy", output, pasteable("evaluate", output, "--dataset", dataset, config=config))


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or folders of runs.")],
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", show_default="report.html in the first RUN", help="Page to write."),
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
