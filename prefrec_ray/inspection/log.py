"""A raw log: its files, the roles and contents of their columns, and a proposed YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import fs

from prefrec_ray import runtime, storage
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import Column, csv_format, flat_columns, profile, sample
from prefrec_ray.inspection.counts import Counts, count
from prefrec_ray.inspection.proposal import files_source, known_lines, proposal
from prefrec_ray.inspection.roles import Roles, check_schema, guess_roles
from prefrec_ray.inspection.rows import rows_of_files, rows_of_log
from prefrec_ray.inspection.tables import Tables, find_tables
from prefrec_ray.logs import KuaiRandSource, SimulatorSource, Source, open_log
from prefrec_ray.logs.listing import is_csv, list_inputs
from prefrec_ray.logs.schemas import CsvFormat, schema

_NAMED = 3  # files in the title


@dataclass(frozen=True)
class LogReport:
    """The report of `prefrec inspect` about a log."""

    title: str  # one line: kind and files
    columns: list[Column]
    roles: Roles | None  # None if the settings or the kind of the log determine them
    counts: Counts
    yaml: str | None  # None if the log has settings already
    sampled: int = 0  # rows that `columns` describe
    tables: Tables = field(default_factory=Tables)
    other_files: list[str] = field(default_factory=list)  # not in `tables`


def inspect_log(paths: Sequence[str]) -> LogReport:
    """Inspect files, folders and globs; a simulator's log folder and KuaiRand are recognized by their files.

    Raises `UserError` for missing or unreadable files, no rows, and columns without a user, an item or a time.
    """
    if len(paths) == 1:
        known = known_source(paths[0])
        if known is not None:
            lines = known_lines(known.model_dump(exclude_defaults=True))
            return _open(known, f"log of kind {known.kind}: {paths[0]}", lines)
    return _inspect_files(paths)


def inspect_settings(settings: PrepareSettings) -> LogReport:
    """Inspect the log of a section `prepare`, with its columns and its session timeout."""
    source = settings.source
    return _open(source, f"log of kind {source.kind}", None, settings.session_gap_minutes, settings.seed)


def known_source(path: str) -> Source | None:
    """Return the source of a folder whose kind is recognized by its files, or None."""
    if storage.exists(storage.join(path, "log.json")):
        return SimulatorSource(kind="simulator", path=path)
    system, inside = storage.filesystem(path)
    if system.get_file_info(inside).type != fs.FileType.Directory:
        return None
    for folder in (storage.join(path, "data"), path):
        names = [file.rpartition("/")[2] for file in storage.list_files(folder)]
        if any(name.startswith("log_standard_") for name in names) and any("user_features" in name for name in names):
            return KuaiRandSource(kind="kuairand", path=path)
    return None


def _open(source: Source, title: str, lines: list[str] | None, timeout: float = 30.0, seed: int = 0) -> LogReport:
    runtime.start_ray()
    log = open_log(source, seed)
    counts = count(rows_of_log(log), timeout, log.given_sessions)
    head = pa.Table.from_pandas(log.interactions.limit(20_000).to_pandas(), preserve_index=False)
    hidden = ("order", "row_hash")
    columns = profile(head.select([name for name in head.column_names if name not in hidden]), counts.rows)
    text = None if lines is None else proposal(lines, counts)
    return LogReport(title, columns, None, counts, text, len(head))


def _inspect_files(paths: Sequence[str]) -> LogReport:
    files, roles, table, form, others = _choose(list_inputs(list(paths)), ", ".join(paths))
    columns = flat_columns(files[0], form)
    runtime.start_ray()
    counts = count(rows_of_files(files, columns, roles, form), named_sessions=roles.session is not None)
    named = {storage.absolute(path): path for path in paths}  # a YAML has the names that the user gave
    own = [named.get(file, file) for file in files] if others else list(paths)
    path: str | list[str] = own if len(own) > 1 else own[0]
    tables = find_tables([named.get(file, file) for file in others], roles, table)
    kind = f"{len(files)} {'CSV' if is_csv(files[0]) else 'Parquet'} file{'s' if len(files) > 1 else ''}"
    return LogReport(
        title=f"{kind}: {', '.join(own[:_NAMED])}{', ...' if len(own) > _NAMED else ''}",
        columns=profile(table, counts.rows + counts.incomplete),
        roles=roles,
        counts=counts,
        yaml=proposal(files_source(path, roles, counts, tables, form.delimiter), counts),
        sampled=len(table),
        tables=tables,
        other_files=[file for file in others if named.get(file, file) not in tables.files],
    )


def _choose(files: list[str], where: str) -> tuple[list[str], Roles, pa.Table, CsvFormat, list[str]]:
    """Return the files of the log, the roles of their columns, a sample, their format, and the other files.

    Files with the same columns are one group; the log is the largest group with a user, an item and a time.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    forms = {file: csv_format(file) for file in files}
    for file in files:
        groups.setdefault(tuple(sorted(schema(file, forms[file]).names)), []).append(file)
    problems = []
    for group in sorted(groups.values(), key=_bytes, reverse=True):
        form = forms[group[0]]
        try:
            check_schema(schema(group[0], form), group[0])
            table = sample(group, flat_columns(group[0], form), form)
            roles = guess_roles(table, profile(table, len(table)), group[0] if len(groups) > 1 else where)
        except UserError as error:
            problems.append(error)
            continue
        others = set(files) - set(group)
        return group, roles, table, form, [file for file in files if file in others]
    raise problems[0]


def _bytes(files: list[str]) -> int:
    return sum(storage.filesystem(file)[0].get_file_info(storage.filesystem(file)[1]).size for file in files)
