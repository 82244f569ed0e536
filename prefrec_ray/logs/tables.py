"""The two small tables that may come with a log: features of users, embeddings of items."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.logs.canonical import Place, finite, to_ids, to_numbers
from prefrec_ray.logs.fragments import list_inputs, read_table, schema

#: A feature of more categories would make the state too wide.
MAX_CATEGORIES = 512


def user_table(path: str, id_column: str, features: list[str], id_type: pa.DataType) -> pa.Table:
    """user_id and the features as text (null: unknown). Raises `UserError` for columns or ids that do not fit."""
    table, place = _read(path, [id_column, *features])
    columns = {"user_id": _unique_ids(table[id_column], id_type, place, id_column)}
    for name in features:
        columns[name] = table[name].cast(pa.string())
        size = len(pc.unique(columns[name]))
        if size > MAX_CATEGORIES:
            raise UserError(
                f"{place.file}: column '{name}' has {size} categories; expected at most {MAX_CATEGORIES} (put similar "
                "ones together, or leave it out)"
            )
    return pa.table(columns)


def item_table(path: str, id_column: str, embedding: str | list[str], id_type: pa.DataType) -> pa.Table:
    """item_id and embedding (fixed_size_list<float32>), its numbers within [-1, 1]. Raises `UserError` otherwise."""
    names = [embedding] if isinstance(embedding, str) else embedding
    table, place = _read(path, [id_column, *names])
    if isinstance(embedding, str):
        values = _list_column(table[embedding], place, embedding)
    else:
        values = np.stack([finite(to_numbers(table[name], place, name), place, name) for name in names], axis=1)
    label = names[0] if len(names) == 1 else f"{names[0]}' .. '{names[-1]}"
    outside = ~(np.abs(values) <= 1.0).all(axis=1)
    if outside.any():
        row = int(outside.argmax())
        raise place.problem(label, row, f"found {values[row][np.abs(values[row]).argmax()]}", "numbers within [-1, 1]")
    array = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])
    return pa.table({"item_id": _unique_ids(table[id_column], id_type, place, id_column), "embedding": array})


def _read(path: str, columns: list[str]) -> tuple[pa.Table, Place]:
    files = list_inputs(path)
    if len(files) > 1:
        raise UserError(f"{path}: {len(files)} files; expected one table")
    found = schema(files[0]).names
    for name in columns:
        if name not in found:
            raise UserError(f"{files[0]}: column '{name}' is missing; found {', '.join(found)}")
    return read_table(files[0], columns), Place(files[0], 0, 0)


def _unique_ids(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str) -> pa.ChunkedArray:
    ids = to_ids(column, kind, place, name)
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise UserError(f"{place.file}: column '{name}': {repeated[0]['values']} occurs more than once; expected once")
    return ids


def _list_column(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """A column of lists of one length as float64 [n, d]."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise UserError(f"{place.file}: column '{name}' is {kind}; expected lists of numbers, or name several columns")
    if column.null_count:
        raise place.problem(name, pc.index(column.is_null(), True).as_py(), "found nothing", "a list of numbers")
    lengths = pc.list_value_length(column).to_numpy()
    if len(lengths) == 0 or lengths[0] == 0:
        raise UserError(f"{place.file}: column '{name}': no embeddings; expected a list of numbers in every row")
    if (lengths != lengths[0]).any():
        row = int((lengths != lengths[0]).argmax())
        raise place.problem(name, row, f"a list of {lengths[row]}", f"{lengths[0]} numbers, as in the first row")
    flat = pc.list_flatten(column).cast(pa.float64()).to_numpy()
    values = flat.reshape(-1, lengths[0])
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise place.problem(name, int(bad.argmax()), "a number that is not finite", "finite numbers")
    return values
