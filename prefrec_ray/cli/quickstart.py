"""Commands for first steps: `prefrec quickstart`, all stages in one folder, `prefrec validate` and `plugins`."""

from __future__ import annotations

import time
from glob import has_magic
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefrec_ray.cli.console import console, made, progress
from prefrec_ray.cli.verdicts import summary, verdict_table
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.evaluation.results.records import Evaluation


def quickstart(
    output: Annotated[str, typer.Option(metavar="DIR", help="New folder for all files.")] = "quickstart",
) -> None:
    """Simulate, prepare, train, evaluate and report: a few minutes on two cores."""
    import yaml

    from prefrec_ray import storage
    from prefrec_ray.cli.config import load_sections, parse_section
    from prefrec_ray.reports.page import write_report

    if storage.exists(output):
        raise UserError(f"{output}: already exists; remove it, or choose another folder by --output")
    started = time.monotonic()
    logs, dataset, runs = (storage.join(output, name) for name in ("logs", "dataset", "runs"))
    out = console()
    out.print(
        "A short-video platform is simulated. A policy learns from its logs which items make users come back.",
        style="dim",
    )
    storage.make_folder(output)
    text = files("prefrec_ray.cli").joinpath("quickstart.yaml").read_text("utf-8")
    # Quoted where YAML would read the path as something else.
    path = yaml.safe_dump({"path": logs}, allow_unicode=True, width=float("inf")).strip()
    config = storage.join(output, "quickstart.yaml")
    storage.write_text(config, text.replace("path: quickstart/logs", path))
    settings = {name: parse_section(name, value, config) for name, value in load_sections(config).items()}
    evaluation = _run(settings, logs, dataset, runs)
    report = storage.join(output, "report.html")
    write_report([runs], report)
    for task in evaluation.tasks:
        out.print()
        out.print(summary(evaluation, task))
    out.print()
    out.print(verdict_table(evaluation))
    out.print()
    took = f" ({time.monotonic() - started:.0f} s)"
    made("report", report, "open it in a browser, then read docs/quickstart.md", took)


def _run(settings: dict[str, Any], logs: str, dataset: str, runs: str) -> Evaluation:
    """Simulate, prepare, train and evaluate."""
    from prefrec_ray import storage
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.dataset.prepare.run import prepare
    from prefrec_ray.evaluation.run import EvaluationFits, EvaluationRun, run_evaluation
    from prefrec_ray.policy import Policy
    from prefrec_ray.runs.train import start_run
    from prefrec_ray.simulator.write import simulate

    with progress(console()) as report:
        simulate(settings["simulate"], logs, report)
        prepare(settings["prepare"], dataset, report)
        # Training uses one core. The other one fits the behavior clone and the models of users of the evaluation.
        prepared = PreparedDataset.open(storage.absolute(dataset))  # workers may run in another folder
        fits = EvaluationFits.start(prepared, settings["evaluate"])
        run, best = storage.join(runs, "robust"), storage.join(runs, "robust_best")
        start_run(settings["train"], dataset, run, report=report, evaluation=settings["evaluate"])
        policy = storage.join(run, "policy")
        # The same policy with a serving rule that always selects the items with the highest scores.
        Policy.load(policy).under(rule="best").save(best)
        policies = [policy, best]
        return run_evaluation(EvaluationRun(policies, dataset, settings["evaluate"], online=True), report, fits)


def validate(file: Annotated[str, typer.Argument(metavar="FILE", help="YAML file or URI.")]) -> None:
    """Check every section of a YAML, and of a local log the first rows, and the columns of its tables."""
    from prefrec_ray.cli.config import load_sections, parse_section
    from prefrec_ray.logs.sources import parts_of

    sections = load_sections(file)
    for name, value in sections.items():
        settings = parse_section(name, value, file)
        if name == "prepare":
            for part in parts_of(settings.source):
                _check_tables(part)
    console().print(f"{file}: well-formed (sections: {', '.join(sections)})")


def plugins() -> None:
    """List the plug-ins of all installed packages: kind, name, package with its version, object path."""
    from prefrec_ray.plugins import KINDS, installed

    rows = [(one.kind, one.name, f"{one.package} {one.version}", one.path) for kind in KINDS for one in installed(kind)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        console().print("  ".join(map(str.ljust, row, widths)).rstrip())


def _check_tables(source: Any) -> None:
    from prefrec_ray import storage
    from prefrec_ray.logs.sources import ColumnsSource, FilesSource

    if not isinstance(source, ColumnsSource):
        return
    paths = [table.path for table in (source.users, source.items) if table]
    if paths and all("://" not in path and storage.exists(path) for path in paths):
        from prefrec_ray.logs.schemas import check_tables  # it imports pyarrow.parquet

        check_tables(source)
    if isinstance(source, FilesSource):
        log = [source.path] if isinstance(source.path, str) else source.path
        if all("://" not in path and (has_magic(path) or storage.exists(path)) for path in log):
            from prefrec_ray.logs.readers.files import check_first_rows

            console().print(f"log: found no fault in {check_first_rows(source):,} rows, the first ones of each file")
