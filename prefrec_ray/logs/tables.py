"""The two small tables beside a log: features of users, and embeddings of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.contract import Part, Place
from prefrec_ray.logs.fragments import read_clean
from prefrec_ray.logs.listing import list_inputs
from prefrec_ray.logs.schemas import PLAIN, CsvFormat, check_present, schema
from prefrec_ray.logs.values import finite, is_number, refuse, to_ids, to_numbers, to_text

#: A feature with more categories would make the state too wide.
MAX_CATEGORIES = 512


def user_table(
    path: str,
    id_column: str,
    features: list[str],
    id_type: pa.DataType,
    part: Part | None = None,
    form: CsvFormat = PLAIN,
) -> pa.Table:
    """user_id and the features as text (null: unknown).

    Bad rows go to `part`. Raises `UserError` for columns that do not fit, and without `part` for bad rows.
    """

    def convert(table: pa.Table, place: Place) -> pa.Table:
        ids = _unique_ids(table[id_column], id_type, place, id_column)
        return pa.table({"user_id": ids, **{name: _texts(table[name], place, name) for name in features}})

    file, table = _read(path, [id_column, *features], convert, part, form)
    for name in features:
        size = len(pc.unique(table[name]))
        if size > MAX_CATEGORIES:
            raise UserError(
                f"{file}: column '{name}' has {size} categories; expected at most {MAX_CATEGORIES} (merge "
                "similar ones, or leave it out)"
            )
    return table


def item_table(
    path: str,
    id_column: str,
    embedding: str | list[str],
    id_type: pa.DataType,
    part: Part | None = None,
    form: CsvFormat = PLAIN,
    about: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """item_id, embedding (fixed_size_list<float32>, numbers in [-1, 1]), and a column of text a key of `about`, which
    names the column that it comes from. Raises as `user_table` does."""
    names = [embedding] if isinstance(embedding, str) else embedding

    def convert(table: pa.Table, place: Place) -> pa.Table:
        if isinstance(embedding, str):
            values = _list_column(table[embedding], place, embedding)
        else:
            values = np.stack([_within(finite(to_numbers(table[n], place, n), place, n), place, n) for n in names], 1)
        _within(values, place, names[0])
        array = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])
        ids = _unique_ids(table[id_column], id_type, place, id_column)
        texts = {name: _texts(table[column], place, column) for name, column in about.items()}
        return pa.table({"item_id": ids, "embedding": array, **texts})

    columns = list(dict.fromkeys([id_column, *names, *about.values()]))
    return _read(path, columns, convert, part, form)[1]


def _read(
    path: str, columns: list[str], convert: Callable[[pa.Table, Place], pa.Table], part: Part | None, form: CsvFormat
) -> tuple[str, pa.Table]:
    files = list_inputs(path)
    if len(files) > 1:
        raise UserError(f"{path}: {len(files)} files; expected one table")
    check_present(files[0], columns, schema(files[0], form).names)
    return files[0], read_clean(files[0], columns, convert, part, form)


def _unique_ids(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str) -> pa.ChunkedArray:
    ids = to_ids(column, kind, place, name)
    repeated = np.ones(len(ids), dtype=bool)
    repeated[np.unique(codes(ids), return_index=True)[1]] = False
    refuse(repeated, place, name, lambda row: f"found {ids[row]} again", "each id once")
    return ids


def _texts(column: pa.ChunkedArray, place: Place, name: str) -> pa.ChunkedArray:
    try:
        texts = column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:  # lists; bytes that are not UTF-8
        raise UserError(f"{place.file}: column '{name}' is {column.type}; expected text") from error
    return to_text(texts, place, name)


def _within(values: np.ndarray, place: Place, name: str) -> np.ndarray:
    """`values` [n] or [n, d], all in [-1, 1]. Raises `BadRows`."""
    size = np.abs(values if values.ndim == 2 else values[:, None])

    def largest(row: int) -> str:
        return f"found {values.reshape(size.shape)[row][size[row].argmax()]}"

    refuse((size > 1.0).any(axis=1), place, name, largest, "numbers within [-1, 1]")
    return values


def _list_column(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """A column of lists of equal length as float64 [n, d]. Raises `BadRows`, and `UserError` for another type."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (is_list and is_number(kind.value_type)):
        raise UserError(f"{place.file}: column '{name}' is {kind}; expected lists of numbers, or name several columns")
    refuse(column.is_null().to_numpy(), place, name, lambda row: "found nothing", "a list of numbers")
    lengths = pc.list_value_length(column).to_numpy()
    if len(lengths) == 0 or lengths[0] == 0:
        raise UserError(f"{place.file}: column '{name}': no embeddings; expected a list of numbers in every row")
    expected = f"{lengths[0]} numbers, as in the first row"
    refuse(lengths != lengths[0], place, name, lambda row: f"a list of {lengths[row]}", expected)
    values = pc.list_flatten(column).cast(pa.float64()).to_numpy().reshape(-1, lengths[0])
    refuse(~np.isfinite(values).all(axis=1), place, name, lambda row: "a number that is not finite", "finite numbers")
    return values
