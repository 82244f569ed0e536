"""Checks of the columns of the tables of users and items before rows are read."""

from __future__ import annotations

import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.logs.listing import is_csv, list_inputs
from prefrec_ray.logs.schemas import CsvFormat, check_present, schema
from prefrec_ray.logs.sources import ColumnsSource, FilesSource
from prefrec_ray.logs.values import is_list, is_number


def check_tables(source: ColumnsSource) -> None:
    """Check that a table of users or items exists, has all columns, and can contain the embeddings.

    Uses only names and types. Raises `UserError`.
    """
    form = CsvFormat(source.delimiter if isinstance(source, FilesSource) else None)
    if source.users:
        columns_of(source.users.path, [source.users.id, *source.users.features], form)
    items = source.items
    if items:
        one = isinstance(items.embedding, str)
        names = [items.embedding] if isinstance(items.embedding, str) else items.embedding or []
        file, kinds = columns_of(items.path, [items.id, *names, *items.features, *items.about.values()], form)
        for name in names:
            kind = kinds.field(name).type
            # A cell that is not a number makes the whole CSV column text; `prepare` reports its row.
            if (is_csv(file) and one) or not (is_csv(file) or may_embed(kind, one)):
                raise no_embedding(file, name, kind)


def columns_of(path: str, columns: list[str], form: CsvFormat) -> tuple[str, pa.Schema]:
    """Return the only file of a table, and its schema. Raises `UserError` if it lacks one of `columns`."""
    files = list_inputs(path)
    if len(files) > 1:
        raise UserError(f"{path}: found {len(files)} files; expected one table")
    found = schema(files[0], form)
    check_present(files[0], columns, found.names)
    return files[0], found


def may_embed(kind: pa.DataType, lists: bool) -> bool:
    """Return True if a column may contain embeddings, as `lists` of numbers or as single numbers."""
    return (is_list(kind) and is_number(kind.value_type)) if lists else is_number(kind) or pa.types.is_null(kind)


def no_embedding(file: str, name: str, kind: pa.DataType) -> UserError:
    """Return the error for a column that cannot contain embeddings."""
    return UserError(
        f"{file}: column '{name}' is {kind}; expected lists of numbers, or name several columns of numbers; categories "
        f"belong to features: [{name}]"
    )
