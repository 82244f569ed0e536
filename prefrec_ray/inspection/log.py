"""A raw log and the tables of users and items next to it: roles of their columns, a dry run, and a proposed YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import runtime, storage
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import ID, ITEM, USER, Column, csv_format, is_key, profile, sample
from prefrec_ray.inspection.counts import Counts, count, first_rows_of
from prefrec_ray.inspection.proposal import proposal, source_lines
from prefrec_ray.inspection.roles import Roles, check_header, guess_roles
from prefrec_ray.logs.contract import Reason, Side, summary
from prefrec_ray.logs.listing import list_inputs
from prefrec_ray.logs.schemas import CsvFormat, schema
from prefrec_ray.logs.sources import CompleteJourneySource, FilesSource, KuaiRandSource, SimulatorSource, Source
from prefrec_ray.logs.tables import MAX_CATEGORIES, SEPARATOR
from prefrec_ray.logs.values import is_list, is_text
from prefrec_ray.settings import parse

_NAMED = 3  # files in the title
_HEAD = 20_000  # rows that describe the columns of a known source
#: Words in names of columns of titles.
_TITLE = ("title", "name", "headline", "caption", "label")
#: Numbers that are known before an impression, unlike counts and means of ratings, which contain the future.
_NUMBERS = (
    *("year", "release", "released", "decade", "duration", "length", "runtime", "minutes", "pages", "price", "age"),
)
_MAX_CATEGORIES = 50  # of a column of single categories


@dataclass(frozen=True)
class LogReport:
    """The report of `prefrec inspect` about a log."""

    title: str  # one line: kind and files
    columns: list[Column]
    roles: Roles | None  # None if the settings or the kind of the log determine them
    counts: Counts
    refused: list[Reason]  # rows that `prepare` refuses; all counts are about the other rows
    yaml: str | None  # None if the log has settings already
    sampled: int  # rows that `columns` describe
    unused: Sequence[str] = ()  # files that the YAML does not use


def inspect_settings(settings: PrepareSettings) -> LogReport:
    """Inspect the log of a section `prepare`, with its columns and its session timeout."""
    source = settings.source
    counts, refused, rows = _read(source, settings.session_gap_minutes, settings.seed)
    columns = profile(rows.select([name for name in rows.column_names if name not in ("order", "row_hash")]))
    return LogReport(f"log of kind {source.kind}", columns, None, counts, refused, None, len(rows))


def _read(source: Source, timeout: float = 30.0, seed: int = 0) -> tuple[Counts, list[Reason], pa.Table]:
    """Count a log as `prepare` reads it, and return its first rows. Raises `UserError` if no row can be used.

    The first bad row of a log that Ray reads is a `UserError`, since processes of Ray may be on other machines.
    """
    with TemporaryDirectory() as folder:
        side = Side(folder, keep_rows=False)
        here = isinstance(source, FilesSource | SimulatorSource | KuaiRandSource | CompleteJourneySource)
        if not here:
            runtime.start_ray()
        rows, partial = first_rows_of(source.open_log(seed, side if here else None))
        refused = side.reasons()
        if rows is None:
            raise UserError(summary(refused) if refused else "the log has no rows; expected some")
        return count(rows, timeout, partial), refused, rows.slice(0, _HEAD)


def inspect_log(
    paths: Sequence[str], columns: Mapping[str, str] = MappingProxyType({}), names: Sequence[str] = ()
) -> LogReport:
    """Inspect files, folders and globs. Raises `UserError` for an unusable log.

    `columns`: the columns of the roles `user`, `item` and `time`; roles without a column are guessed. `names`: of all
    columns of a CSV log without a header.
    """
    of_paths = {path: list_inputs(path) for path in paths}
    listed = list(dict.fromkeys(file for files in of_paths.values() for file in files))
    files, roles, table, form, others = _choose(listed, ", ".join(paths), columns, names)
    # A YAML has the names that the user gave. A folder, and a glob, also has files that will be written later.
    named = {storage.absolute(path): path for path in paths}
    whole = [path for path, at in of_paths.items() if set(at) <= set(files)]
    rest = set(files) - {file for path in whole for file in of_paths[path]}
    own = whole + [file for file in files if file in rest]
    tables, unused = find_tables([named.get(file, file) for file in others], roles.source, table)
    source: dict[str, Any] = {"kind": "files", "path": own if len(own) > 1 else own[0]}
    source |= {"delimiter": form.delimiter} if form.delimiter else {}
    source |= {"column_names": list(form.names)} if form.names else {}
    source |= roles.source
    counts, refused, _ = _read(parse(FilesSource, source, own[0]))
    source |= tables
    if shared := counts.shared_rows:
        roles.doubts["time"] = shared
    if counts.repeats:
        source["duplicates"] = "keep"
        roles.doubts["duplicates"] = f"{counts.repeats:,} rows; or refuse, and prefrec prepare --on-error drop"
    text = proposal(source_lines(source, roles.doubts), counts)
    title = f"log: {', '.join(own[:_NAMED])}{', ...' if len(own) > _NAMED else ''}"
    return LogReport(title, profile(table), replace(roles, source=source), counts, refused, text, len(table), unused)


def _choose(
    files: list[str], where: str, columns: Mapping[str, str], names: Sequence[str]
) -> tuple[list[str], Roles, pa.Table, CsvFormat, list[str]]:
    """Return the largest group of files of equal columns that can be a log, its roles, sample, format; other files."""
    groups: dict[tuple[str, ...], list[str]] = {}
    forms = {file: csv_format(file, names) for file in files}
    if names and not any(form.names for form in forms.values()):
        width = len(schema(files[0], forms[files[0]]))
        raise UserError(f"{where}: found {width} columns and {len(names)} names; expected a name for each")
    for file in files:
        groups.setdefault(tuple(sorted(schema(file, forms[file]).names)), []).append(file)
    problems: list[UserError] = []
    for group in sorted(groups.values(), key=_bytes, reverse=True):
        form = forms[group[0]]
        try:
            if form.names is None:
                check_header(schema(group[0], form).names, group[0])
            table = sample(group, form)
            roles = guess_roles(table, group[0] if len(groups) > 1 else where, columns)
        except UserError as error:
            # A log with only a header is smaller than its tables.
            names_of = schema(group[0], form).names
            may_be_log = all(any(is_key(name, of) for name in names_of) for of in (USER, ITEM))
            problems.insert(0 if may_be_log else len(problems), error)
            continue
        return group, roles, table, form, [file for file in files if file not in group]
    raise problems[0]


def _bytes(files: list[str]) -> int:
    return sum(storage.filesystem(file)[0].get_file_info(storage.filesystem(file)[1]).size for file in files)


def find_tables(
    files: Sequence[str], source: Mapping[str, Any], log: pa.Table
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the keys `users` and `items` of a source, and the files that are neither.

    The keys are the first tables with ids of the type in the sample `log`.
    """
    tables: dict[str, dict[str, Any]] = {}
    for file in files:
        form = csv_format(file)
        try:
            table = sample([file], form)
        except UserError:  # empty
            continue
        columns = profile(table)
        user = _key(columns, table, USER, log.schema.field(source["user"]))
        item = _key(columns, table, ITEM, log.schema.field(source["item"]))
        features = [c.name for c in columns if c.name != user and _is_category(c)]
        if user and features:
            tables.setdefault("users", {"path": file, "id": user, "features": features})
        about = _of_items([c for c in columns if c.name != item], table, schema(file, form)) if item else {}
        if about:
            tables.setdefault("items", {"path": file, "id": item, **about})
    used = [table["path"] for table in tables.values()]
    return dict(sorted(tables.items(), reverse=True)), [file for file in files if file not in used]  # users first


def _of_items(columns: Sequence[Column], table: pa.Table, kinds: pa.Schema) -> dict[str, Any]:
    """Return the keys `title`, and `embedding` or `features`, of a table of items."""
    title = next((c for c in columns if is_text(c.kind) and c.has(_TITLE) and 2 * c.distinct > len(table)), None)
    about = {} if title is None else {"title": title.name}
    lists = {kind.name: kind.type.value_type for kind in kinds if is_list(kind.type)}
    embedding = next((name for name, kind in lists.items() if pa.types.is_floating(kind)), None)
    if embedding:
        return {"embedding": embedding, **about}
    features = [c.name for c in columns if c is not title and _is_feature(c, table)]
    features += [name for name, kind in lists.items() if is_text(kind)]
    return {**about, **({"features": features} if features else {})}


def _key(columns: Sequence[Column], table: pa.Table, vocabulary: Sequence[str], logged: pa.Field) -> str | None:
    """Return the column whose ids are unique and of the type of the `logged` ids, or None."""
    for column in columns:
        same = pa.types.is_integer(column.kind) == pa.types.is_integer(logged.type)
        if (column.name == logged.name or column.has(vocabulary)) and column.distinct == len(table) and same:
            return column.name
    return None


def _is_category(column: Column) -> bool:
    return 2 <= column.distinct <= _MAX_CATEGORIES and not pa.types.is_floating(column.kind)


def _is_feature(column: Column, table: pa.Table) -> bool:
    if column.distinct < 2 or column.has(ID):
        return False
    if column.is_number and column.has(_NUMBERS):
        return True
    return _is_category(column) or (is_text(column.kind) and _has_lists(table[column.name]))


def _has_lists(column: pa.ChunkedArray) -> bool:
    """Return whether cells are lists such as A|B|C with few categories in all."""
    texts = column.drop_null().cast(pa.string())
    if not pc.any(pc.match_substring(texts, SEPARATOR)).as_py():
        return False
    categories = pc.count_distinct(pc.split_pattern(texts, SEPARATOR).combine_chunks().flatten()).as_py()
    return 2 <= categories <= min(MAX_CATEGORIES, len(texts) // 2)
