"""A raw log: its files, the roles of their columns, what they hold, and a proposed YAML."""

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
from prefrec_ray.inspection.names import ITEM, USER, words
from prefrec_ray.inspection.proposal import Tables, files_source, known_lines, proposal
from prefrec_ray.inspection.roles import Roles, check_schema, guess_roles
from prefrec_ray.inspection.rows import rows_of_files, rows_of_log
from prefrec_ray.logs import KuaiRandSource, SimulatorSource, Source, open_log
from prefrec_ray.logs.listing import is_csv, list_inputs
from prefrec_ray.logs.schemas import CsvFormat, schema

_MAX_CATEGORIES = 50  # of a column that is proposed as a user feature


@dataclass(frozen=True)
class LogReport:
    """What `prefrec inspect` reports about a log."""

    title: str  # one line: kind and files
    columns: list[Column]
    roles: Roles | None  # None where the settings or the kind of the log decide
    counts: Counts
    yaml: str | None  # None where the log has settings already
    other_files: list[str] = field(default_factory=list)


def inspect_log(paths: Sequence[str]) -> LogReport:
    """Inspects files, folders and globs; a simulator's log folder and KuaiRand are recognized by their files.

    Raises `UserError` for missing or unreadable files, no rows, and columns without a user, an item or a time.
    """
    if len(paths) == 1:
        known = known_source(paths[0])
        if known is not None:
            lines = known_lines(known.model_dump(exclude_defaults=True))
            return _open(known, f"log of kind {known.kind}: {paths[0]}", lines)
    return _inspect_files(paths)


def inspect_settings(settings: PrepareSettings) -> LogReport:
    """Inspects the log of a section `prepare`, with its columns and its session timeout."""
    source = settings.source
    return _open(source, f"log of kind {source.kind}", None, settings.session_gap_minutes, settings.seed)


def known_source(path: str) -> Source | None:
    """The source of a folder whose kind is recognized by its files, or None."""
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
    return LogReport(title, columns, None, counts, None if lines is None else proposal(lines, counts))


def _inspect_files(paths: Sequence[str]) -> LogReport:
    files, roles, table, form, others = _choose(list_inputs(list(paths)), ", ".join(paths))
    columns = flat_columns(files[0], form)
    runtime.start_ray()
    counts = count(rows_of_files(files, columns, roles, form), named_sessions=roles.session is not None)
    path: str | list[str] = list(paths) if len(paths) > 1 else paths[0]
    if others:
        path = files if len(files) > 1 else files[0]
    tables = _tables(others, roles, table)
    kind = f"{len(files)} {'CSV' if is_csv(files[0]) else 'Parquet'} file{'s' if len(files) > 1 else ''}"
    return LogReport(
        title=f"{kind}: {', '.join(paths)}",
        columns=profile(table, counts.rows + counts.incomplete),
        roles=roles,
        counts=counts,
        yaml=proposal(files_source(path, roles, counts, tables, form.delimiter), counts),
        other_files=others,
    )


def _choose(files: list[str], where: str) -> tuple[list[str], Roles, pa.Table, CsvFormat, list[str]]:
    """The files of the log, the roles of their columns, a sample of them, their format, and the other files.

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


def _tables(files: list[str], roles: Roles, log: pa.Table) -> Tables:
    """Tables of users and of items among `files`: one row per id, with features or an embedding."""
    users = items = None
    for file in files:
        form = csv_format(file)
        try:
            table = sample([file], flat_columns(file, form), form)
        except UserError:
            continue  # empty
        columns = profile(table, len(table))
        user = _key(columns, table, USER, log.schema.field(roles.user).type)
        item = _key(columns, table, ITEM, log.schema.field(roles.item).type)
        features = [c.name for c in columns if c.name != user and _is_category(c)]
        if users is None and user and features:
            users = {"path": file, "id": user, "features": features}
        embedding = [field.name for field in schema(file, form) if _is_embedding(field.type)]
        if items is None and item and embedding:
            items = {"path": file, "id": item, "embedding": embedding[0]}
    return Tables(users, items)


def _key(columns: Sequence[Column], table: pa.Table, vocabulary: Sequence[str], kind: pa.DataType) -> str | None:
    """The column whose ids are unique and of the log's type, or None."""
    for column in columns:
        named = set(words(column.name)) & set(vocabulary)
        if named and column.distinct == len(table) and pa.types.is_integer(column.kind) == pa.types.is_integer(kind):
            return column.name
    return None


def _is_category(column: Column) -> bool:
    return 2 <= column.distinct <= _MAX_CATEGORIES and not pa.types.is_floating(column.kind)


def _is_embedding(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in lists) and pa.types.is_floating(kind.value_type)
