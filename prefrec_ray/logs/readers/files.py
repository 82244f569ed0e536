"""Logs in Parquet or CSV files, with column names from the YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Part, Place, Reason, Side, clean, part_of, place_of, summary
from prefrec_ray.logs.fragments import batches, read_files
from prefrec_ray.logs.listing import is_csv, list_inputs
from prefrec_ray.logs.log import UNIQUE, Log, LoggedSource, equal_rows, to_canonical
from prefrec_ray.logs.schemas import PLAIN, CsvFormat, check_each_once, padded_columns, schemas
from prefrec_ray.logs.sources import ColumnsSource, FilesSource
from prefrec_ray.logs.tables import content_of, item_table, user_table
from prefrec_ray.logs.values import is_number, is_text

#: Files whose first rows are checked, at most.
_CHECKED = 32
#: A file or other source of rows, its columns, and True if they are written as text.
Found = tuple[str, pa.Schema, bool]


def open_log(source: FilesSource, seed: int = 0, side: Side | None = None) -> Log:
    """Return the log in files. Raises `UserError` for a missing file or column, and for a column of a wrong type."""
    files = list_inputs(source.path)
    form = CsvFormat(source.delimiter, source.column_names)
    types = types_in_files(source, files, form)
    canonical = partial(to_canonical, source=source, id_types=types)
    rows = read_files(files, source.columns, canonical, side, form)
    return log_of(source, rows, files, types, side, CsvFormat(source.delimiter))


def check_first_rows(source: FilesSource) -> int:
    """Check the first block of each file (of many files, of some), as `prepare` does. Return the number of rows.

    Raises `UserError` with the first bad row, also for rows that are equal to an earlier one.
    """
    files = list_inputs(source.path)
    form = CsvFormat(source.delimiter, source.column_names)
    types = types_in_files(source, files, form)
    canonical = partial(to_canonical, source=source, id_types=types)
    part, tables = Part(None), []
    for number in np.unique(np.linspace(0, len(files) - 1, _CHECKED).astype(int)).tolist():
        with closing(batches(Place(files[number], number), source.columns, form=form, part=part)) as blocks:
            tables += [clean(table, place, canonical, part) for table, place in islice(blocks, 1)]
    if tables and source.duplicates == "refuse":
        rows = pa.concat_tables(tables).sort_by([(name, "ascending") for name in ("user_id", "timestamp", "order")])
        number, row = place_of(np.sort(rows["order"].to_numpy()[equal_rows(rows)]))
        if len(row):
            first = int(number[0])
            found = "the same as an earlier row"
            part.add(Reason("", UNIQUE, len(row), first, files[first], int(row[0]), found), [], [], [])
    if part.reasons:
        raise UserError(summary(part.reasons))
    return sum(map(len, tables))


def log_of(
    source: ColumnsSource,
    rows: Mapping[str, Any],
    files: Sequence[str],
    types: Mapping[str, pa.DataType],
    side: Side | None,
    form: CsvFormat = PLAIN,
) -> Log:
    """Return the log with tables of users and items. `rows`: fields of the interactions. `types`: of ids, by column."""
    users = items = about = content = None
    if source.users:
        with part_of(side, "users") as part:
            users = user_table(source.users, types[source.user], part, form)
    if source.items:
        with part_of(side, "items") as part:
            table = item_table(source.items, types[source.item], part, form)
        if source.items.embedding:
            items = table
        else:
            about = table.select(["item_id", *source.items.about])
        if source.items.features:
            content = partial(content_of, table.select(["item_id", "tags"]))
    return Log(
        **rows,
        feedback=tuple(source.feedback),
        feedback_kinds={name: feedback.kind for name, feedback in source.feedback.items()},
        user_ids=types[source.user],
        item_ids=types[source.item],
        users=users,
        items=items,
        content=content,
        about=about,
        sources=(LoggedSource(tuple(files), source.duplicates == "refuse", all_examined=source.examined is not None),),
        given_sessions=source.session is not None,
        has_pages=source.page is not None,
        has_examined=source.examined is not None,
        has_reward=source.reward is not None,
        has_propensity=source.propensity is not None,
    )


def types_in_files(source: ColumnsSource, files: list[str], form: CsvFormat = PLAIN) -> dict[str, pa.DataType]:
    """Return the types of ids, int64 or string by column, from the schemas of all files.

    Ids in CSV are integers if the first block of every file has only integers; 007 is text.
    """
    found: list[Found] = []
    for file, schema in zip(files, schemas(files, form), strict=True):
        check_each_once(file, source.columns, schema.names)
        if is_csv(file):
            for name in padded_columns(file, source.id_columns, form):
                schema = schema.set(schema.get_field_index(name), pa.field(name, pa.string()))
        found.append((file, schema, is_csv(file)))
    return types_of_ids(source, found)


def types_of_ids(source: ColumnsSource, found: Iterable[Found]) -> dict[str, pa.DataType]:
    """Return the types of ids, int64 or string by column. Raises `UserError` for a missing column or a wrong type."""
    kinds: dict[str, dict[pa.DataType, str]] = {name: {} for name in source.id_columns}
    with_type: set[str] = set()  # not written as text
    optional = (source.position, source.examined, source.dwell, source.reward, source.propensity)
    numbers = [one.column for one in source.feedback.values() if one.equals is None]
    numbers += [name for name in optional if name is not None]
    compared = [one.column for one in source.feedback.values() if one.equals is not None]
    for file, schema, written in found:
        check_each_once(file, source.columns, schema.names)
        for name in source.id_columns:
            kind = schema.field(name).type
            if kind == pa.null():  # an empty column
                continue
            kinds[name].setdefault(id_type(kind, file, name, written), file)
            if not written:
                with_type.add(name)
        if not written:
            for name in numbers:
                _check_type(schema, name, file, "numbers", is_number)
            for name in compared:
                _check_type(schema, name, file, "text or integers, for `equals`", is_id)
            _check_type(schema, source.time, file, "times (numbers, timestamps or ISO 8601 text)", _is_time)
    for name, files_of_kinds in kinds.items():
        if len(files_of_kinds) > 1 and name in with_type:
            first, second = list(files_of_kinds.items())[:2]
            raise UserError(
                f"{second[1]}: column '{name}' is {second[0]}, but {first[0]} in {first[1]}; expected one type"
            )
    return {name: pa.string() if pa.string() in of_name else pa.int64() for name, of_name in kinds.items()}


def is_id(kind: pa.DataType) -> bool:
    """Return True if a column of this type may be an id: integers (also as decimals) or text."""
    if pa.types.is_dictionary(kind):
        return is_id(kind.value_type)
    return pa.types.is_integer(kind) or is_text(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)


def id_type(kind: pa.DataType, file: str, name: str, written: bool) -> pa.DataType:
    """Return int64 or string for a column of ids; `written`: ids are text. Raises `UserError` for other types."""
    if not (written or is_id(kind)):
        raise UserError(f"{file}: column '{name}' is {kind}; expected ids as integers or text")
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    # If the schema infers a date, a decimal or a boolean, ids are the text as written.
    whole = pa.types.is_integer(value) or (pa.types.is_decimal(value) and is_id(value) and not written)
    return pa.int64() if whole else pa.string()


def _check_type(schema: pa.Schema, name: str, file: str, expected: str, allowed: Callable[[pa.DataType], bool]) -> None:
    kind = schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not allowed(kind) and kind != pa.null():
        raise UserError(f"{file}: column '{name}' is {kind}; expected {expected}")


def _is_time(kind: pa.DataType) -> bool:
    types = pa.types
    whole_or_text = (types.is_integer, types.is_floating, types.is_decimal, types.is_string, types.is_large_string)
    return any(check(kind) for check in (*whole_or_text, types.is_timestamp, types.is_date))
