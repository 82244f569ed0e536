"""Logs in Parquet or CSV files, with a column map from the YAML."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.logs.canonical import ColumnMap
from prefrec_ray.logs.fragments import is_csv, list_inputs, read, schema
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.sources import FilesSource
from prefrec_ray.logs.tables import item_table, user_table


def open_files(source: FilesSource) -> Log:
    """Raises `UserError` for a missing file or column, and for a column of a wrong type."""
    files = list_inputs(source.path)
    columns = ColumnMap(
        user=source.user,
        item=source.item,
        time=source.time,
        feedback=source.feedback,
        time_unit=source.time_unit,
        session=source.session,
        dwell=source.dwell,
        dwell_unit=source.dwell_unit,
        reward=source.reward,
    )
    columns = with_types(columns, files)
    interactions, rows = read(files, columns.columns, columns)
    users, items = source.users, source.items
    return Log(
        interactions=interactions,
        rows=rows,
        feedback=tuple(source.feedback),
        users=user_table(users.path, users.id, users.features, columns.id_types[source.user]) if users else None,
        items=item_table(items.path, items.id, items.embedding, columns.id_types[source.item]) if items else None,
        given_sessions=source.session is not None,
        has_reward=source.reward is not None,
    )


def with_types(columns: ColumnMap, files: list[str]) -> ColumnMap:
    """`columns` with the types of its ids, after a look at the schemas of all files.

    Ids in CSV are integers where the first block of every file shows nothing else, and text otherwise.
    """
    found: dict[str, dict[pa.DataType, str]] = {name: {} for name in columns.ids}
    numbers = [n for n in (*columns.feedback.values(), columns.dwell, columns.reward) if n is not None]
    for file in files:
        here = schema(file)
        for name in columns.columns:
            _check_present(name, here, file)
        for name in columns.ids:
            if here.field(name).type == pa.null():  # no rows to tell
                continue
            found[name].setdefault(id_type(here.field(name).type, file, name), file)
        if not is_csv(file):
            for name in numbers:
                _check_type(here, name, file, "numbers", _is_number)
            _check_type(here, columns.time, file, "times (numbers, timestamps or ISO 8601 text)", _is_time)
    for name, kinds in found.items():
        if len(kinds) > 1 and not all(is_csv(file) for file in files):
            first, second = list(kinds.items())[:2]
            raise UserError(
                f"{second[1]}: column '{name}' is {second[0]}, but {first[0]} in {first[1]}; expected one type"
            )
    types = {name: pa.string() if pa.string() in kinds else pa.int64() for name, kinds in found.items()}
    return ColumnMap(**{**columns.__dict__, "id_types": types})


def id_type(kind: pa.DataType, file: str, name: str) -> pa.DataType:
    """int64 or string. Raises `UserError` for a column of another kind."""
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return id_type(kind.value_type, file, name)
    if is_csv(file):  # inferred as a date, a decimal or a boolean: the text as it is written
        return pa.string()
    raise UserError(f"{file}: column '{name}' is {kind}; expected ids as integers or text")


def _check_present(name: str, found: pa.Schema, file: str) -> None:
    if name not in found.names:
        raise UserError(f"{file}: column '{name}' is missing; found {', '.join(found.names)}")


def _check_type(found: pa.Schema, name: str, file: str, expected: str, allowed: object) -> None:
    kind = found.field(name).type
    if not allowed(kind):  # type: ignore[operator]
        raise UserError(f"{file}: column '{name}' is {kind}; expected {expected}")


def _is_number(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))


def _is_time(kind: pa.DataType) -> bool:
    checks: Iterable = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(check(kind) for check in checks)
