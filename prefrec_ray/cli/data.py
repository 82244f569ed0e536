"""Commands for data: `prefrec simulate`, `inspect`, `prepare`, `forget`, `push` and `pull`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from prefrec_ray.cli.console import Config, console, loading, made, pasteable, progress
from prefrec_ray.errors import UserError

ON_ERROR = ("fail", "drop")
_Repository = Annotated[str, typer.Argument(metavar="REPO", help="hf://NAME/REPO or hf://datasets/NAME/REPO.")]


def simulate(
    config: Config,
    output: Annotated[str, typer.Option(metavar="LOGS", help="New folder for the logs.")],
) -> None:
    """Make interaction logs with the simulator (section `simulate`)."""
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.simulator.write import simulate

    settings = open_section(config, "simulate")

    with progress(console()) as report:
        simulate(settings, output, report)
    made("logs", output, pasteable("prepare", config, "--output", "DATASET"))


def inspect(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Logs (files, folders or globs), or one prepared data set."),
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="Inspect the log of this YAML's section `prepare` instead.")
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="FILE.yaml", help="File for the proposed YAML.")] = None,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="The log's column of users, not guessed.")] = None,
    item: Annotated[str | None, typer.Option(metavar="COLUMN", help="The log's column of items, not guessed.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="The log's column of times, not guessed.")] = None,
    column_names: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names of the columns of a CSV log without a header.")
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
    if output and (is_dataset or config):
        raise UserError("--output: a YAML is proposed for raw logs only; expected PATH of a log")
    columns = {role: name for role, name in (("user", user), ("item", item), ("time", time)) if name is not None}
    if (columns or column_names) and (is_dataset or config):
        raise UserError(f"--{next(iter(columns), 'column-names')}: names columns of a raw log; expected PATH of a log")
    if len(set(columns.values())) < len(columns):
        raise UserError("--user, --item and --time: found one column twice; expected different columns")
    if output and storage.exists(output):
        raise UserError(f"{output}: already exists; choose another file or remove this one")
    if is_dataset:
        _show_dataset(paths[0])
    else:
        _show_log(paths, config, output, columns, column_names.split(",") if column_names else [])


def _show_dataset(uri: str) -> None:
    from prefrec_ray.cli.inspect_tables import dataset_tables, teacher_tables
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.inspection.teachers import diagnose
    from prefrec_ray.reports.load import level_shares

    dataset = PreparedDataset.open(uri)
    _print(dataset_tables(dataset, level_shares(uri)))
    _print(teacher_tables(diagnose(dataset), dataset.metadata.teachers))


def _show_log(
    paths: list[str], config: str | None, output: str | None, columns: dict[str, str], names: list[str]
) -> None:
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.runtime.progress import step

    out = console()
    with progress(out) as shown, step(shown, "read the log"):
        from prefrec_ray.cli.inspect_tables import log_tables  # slow imports on a busy machine
        from prefrec_ray.inspection.log import inspect_log, inspect_settings

        report = inspect_settings(open_section(config, "prepare")) if config else inspect_log(paths, columns, names)
        if report.yaml and output:  # before anything is printed: standard output may be a pipe that ends
            storage.write_text(storage.make_room(output), report.yaml)
    _print(log_tables(report))
    if report.yaml is None:
        return
    if output:
        out.print()
        made("proposed YAML", output, f"read it, then {pasteable('prepare', output, '--output', 'DATASET')}")
    else:
        out.print("\nProposed YAML (--output FILE.yaml writes it):\n", style="bold")
        out.print(report.yaml)


def _print(parts: Iterable[RenderableType]) -> None:
    out = console()
    for part in parts:
        # Only tables wrap.
        out.print(part, soft_wrap=not isinstance(part, Table))


def prepare(
    config: Config,
    output: Annotated[str, typer.Option(metavar="DATASET", help="New folder for the data set.")],
    on_error: Annotated[
        str,
        typer.Option(metavar="fail|drop", help="On a bad row: fail, or drop it and write it to DATASET/dropped."),
    ] = "fail",
) -> None:
    """Make a data set from logs (section `prepare`)."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section

    if on_error not in ON_ERROR:
        raise UserError(f"--on-error: found '{on_error}'; expected one of {', '.join(ON_ERROR)}")
    settings = open_section(config, "prepare")

    with loading(console()):
        from prefrec_ray.dataset.prepare.run import prepare
    with progress(console()) as report:
        prepare(settings, output, report, on_error)  # type: ignore[arg-type]  # checked above
    for line in _kept_and_dropped(storage.read_json(storage.join(output, "dropped.json"))):
        console().print(line)
    made("data set", output, pasteable("train", config, "--dataset", output, "--output", "RUN"))


def _kept_and_dropped(report: dict[str, Any]) -> list[str]:
    """Describe dropped.json: rows kept, rows dropped, and the reasons."""
    kept, bad = report["kept"], report["bad_rows"]
    lines = [f"kept: {kept['rows']:,} impressions of {kept['users']:,} users in {kept['sessions']:,} sessions"]
    for reason, rows in report["left_out"].items():
        lines.append(f"excluded: {rows:,} rows ({reason.replace('_', ' ')})")
    for what, count in report["without_row"].items():
        lines.append(f"without a row in the table of {what}: {count:,} {what} (no features, no title)")
    if bad:
        lines.append(f"dropped: {bad:,} bad rows (DATASET/dropped)")
    for reason in report["reasons"]:
        column = f"column '{reason['column']}', " if reason["column"] else ""
        first = f"first in {reason['file']}, row {reason['row']} ({reason['found']})"
        lines.append(f"  {reason['rows']:,}: {column}expected {reason['expected']}; {first}")
    return lines


def forget(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS", help="Folders of servers, loops, data sets, questions, runs and policies."),
    ],
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Id of a user; may be given several times.")
    ] = None,
    users: Annotated[str | None, typer.Option(metavar="FILE", help="File with ids of users, one per line.")] = None,
) -> None:
    """Delete users from event logs, snapshots, data sets and questions, and name the policies trained with them."""
    from prefrec_ray import storage

    # Ids are as they are: a blank or U+2028 may be part of one. Only the marks of a text file are removed.
    lines = storage.read_text(users).removeprefix("\ufeff").split("\n") if users else []
    ids = list(dict.fromkeys(filter(None, [*(user or []), *(line.removesuffix("\r") for line in lines)])))
    if not ids:
        raise UserError(f"{users or '--user'}: found no id; expected --user ID, or --users FILE with one id per line")
    out = console()
    with loading(out):
        from prefrec_ray.forget import forget
    trained: list[str] = []

    def say(policy: str) -> None:
        if not trained:
            out.print("trained with data of these users, and not changed:")
        trained.append(policy)
        out.print(f"  {policy}")

    forgotten = forget(paths, ids, say)
    removed, absent = forgotten.removed, forgotten.absent
    table = Table("removed", "number", box=None, pad_edge=False)
    for kind, number in sorted(removed.items()):
        table.add_row(kind, f"{number:,}")
    if removed:
        out.print(table)
    if absent:
        some = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
        out.print(f"{len(absent):,} of {len(ids):,} ids have no row below these paths: {some}", markup=False)
    what = "removed users" if removed else "nothing to remove"
    made(what, f"{len(ids) - len(absent):,} of {len(ids):,} ids, {len(paths)} paths", pasteable("nightly", "CONFIG"))


def push(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Policy bundle or data set: a local folder.")],
    target: _Repository,
) -> None:
    """Upload a policy or a data set to the Hugging Face Hub, with a card; a new repository is private."""
    from prefrec_ray.hub import push as upload

    upload(source, target)
    made("repository", target, pasteable("pull", target, "--output", "FOLDER"))


def pull(
    source: _Repository,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="New folder for the files.")],
) -> None:
    """Download a policy or a data set from the Hugging Face Hub."""
    from prefrec_ray.hub import pull as download

    download(source, output)
    made("files", output, f"{output}/README.md describes them")
