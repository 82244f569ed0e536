"""`prefrec inspect`: the contents of a log or a data set."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from prefrec_ray.cli.console import console, made
from prefrec_ray.cli.progress import progress
from prefrec_ray.errors import UserError


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Logs (files, folders or globs), or one prepared data set."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="CONFIG", help="Inspect the log of this YAML's section `prepare` instead."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE.yaml", help="File for the proposed YAML.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="For a data set: a run whose reward model is compared with the teachers."
        ),
    ] = None,
) -> None:
    """Inspect a log (columns, sessions, levels, a proposed YAML) or a data set (counts, teachers)."""
    from prefrec_ray import storage

    paths = paths or []
    if not all(path.strip() for path in paths):
        raise UserError("PATH: found an empty path; expected a file, a folder or a glob (. is this folder)")
    if bool(paths) == bool(config):
        raise UserError("expected PATH, or --config with a YAML whose section `prepare` names the log (one of the two)")
    is_dataset = len(paths) == 1 and storage.exists(storage.join(paths[0], "metadata.json"))
    if run and not is_dataset:
        raise UserError(f"--run: {paths[0] if paths else config} is not a prepared data set")
    if output and (is_dataset or config):
        raise UserError("--output: a YAML is proposed for raw logs only; expected PATH of a log")
    if output and storage.exists(output):
        raise UserError(f"{output}: already exists; choose another file or remove this one")
    if is_dataset:
        _show_dataset(paths[0], run)
    else:
        _show_log(paths, config, output)


def _show_dataset(uri: str, run: str | None) -> None:
    from prefrec_ray.cli.inspect_tables import dataset_tables, teacher_tables
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.inspection.teachers import diagnose_dataset
    from prefrec_ray.reports.levels import level_shares
    from prefrec_ray.reports.load import load_runs

    dataset, runs = PreparedDataset.open(uri), load_runs([run]) if run else []
    _print(dataset_tables(dataset, level_shares(uri)))
    _print(teacher_tables(diagnose_dataset(dataset), dataset.metadata.teachers, runs))


def _show_log(paths: list[str], config: str | None, output: str | None) -> None:
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.runtime.progress import step

    out = console()
    with progress(out) as shown, step(shown, "read the log"):
        from prefrec_ray.cli.inspect_tables import log_tables  # slow imports on a busy machine
        from prefrec_ray.inspection.log import inspect_log, inspect_settings

        report = inspect_settings(open_section(config, "prepare")) if config else inspect_log(paths)
    _print(log_tables(report))
    if report.yaml is None:
        return
    if output:
        storage.write_text(storage.make_room(output), report.yaml)
        out.print()
        made("proposed YAML", output, f"read it, then prefrec prepare {quote(output)} --output DATASET")
    else:
        out.print("\nProposed YAML (--output FILE.yaml writes it):\n", style="bold")
        out.print(report.yaml)


def _print(parts: Iterable[RenderableType]) -> None:
    out = console()
    for part in parts:
        # Only tables wrap.
        out.print(part, soft_wrap=not isinstance(part, Table))
