"""Small tables of a log: features of users; embeddings, features and titles of items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.contract import Part, Place
from prefrec_ray.logs.features import MAX_CATEGORIES, all_tags, tags_of
from prefrec_ray.logs.fragments import read_clean
from prefrec_ray.logs.schemas import PLAIN, CsvFormat
from prefrec_ray.logs.sources import ItemsTable
from prefrec_ray.logs.user_item_schemas import columns_of, may_embed, no_embedding
from prefrec_ray.logs.values import finite, refuse, to_ids, to_numbers, to_text


def user_table(
    path: str,
    id_column: str,
    features: list[str],
    id_type: pa.DataType,
    part: Part | None = None,
    form: CsvFormat = PLAIN,
) -> pa.Table:
    """Return user_id and the features as text (null: unknown).

    Bad rows go to `part`. Raises `UserError` for missing columns and wrong types, and without `part` for bad rows.
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
                "similar ones, or omit it)"
            )
    return table


def item_table(source: ItemsTable, id_type: pa.DataType, part: Part | None = None, form: CsvFormat = PLAIN) -> pa.Table:
    """Return item_id; embedding or tags; title and image as text.

    embedding (fixed_size_list<float32>, numbers in [-1, 1]) and tags (list<string>) exist if the source has embeddings
    or features. Raises as `user_table` does.
    """
    names = [source.embedding] if isinstance(source.embedding, str) else source.embedding or []

    def convert(table: pa.Table, place: Place) -> pa.Table:
        columns = {}
        if isinstance(source.embedding, str):
            columns["embedding"] = _embedding(_list_column(table[names[0]], place, names[0]), place, names[0])
        elif names:
            each = [_within(finite(to_numbers(table[n], place, n), place, n), place, n) for n in names]
            columns["embedding"] = _embedding(np.stack(each, axis=1), place, names[0])
        ids = _unique_ids(table[source.id], id_type, place, source.id)
        if source.features:
            columns["tags"] = all_tags([tags_of(table[name], place, name) for name in source.features])
        texts = {name: _texts(table[column], place, column) for name, column in source.about.items()}
        return pa.table({"item_id": ids, **columns, **texts})

    columns = list(dict.fromkeys([source.id, *names, *source.features, *source.about.values()]))
    return _read(source.path, columns, convert, part, form)[1]


def _read(
    path: str, columns: list[str], convert: Callable[[pa.Table, Place], pa.Table], part: Part | None, form: CsvFormat
) -> tuple[str, pa.Table]:
    file, _ = columns_of(path, columns, form)
    return file, read_clean(file, columns, convert, part, form)


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


def _embedding(values: np.ndarray, place: Place, name: str) -> pa.Array:
    _within(values, place, name)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])


def _within(values: np.ndarray, place: Place, name: str) -> np.ndarray:
    """Return `values` [n] or [n, d] if all are in [-1, 1]. Raises `BadRows`."""
    size = np.abs(values if values.ndim == 2 else values[:, None])

    def largest(row: int) -> str:
        return f"found {values.reshape(size.shape)[row][size[row].argmax()]}"

    refuse((size > 1.0).any(axis=1), place, name, largest, "numbers within [-1, 1]")
    return values


def _list_column(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """Return lists of equal length as float64 [n, d]. Raises `BadRows`, and `UserError` for another type."""
    if not may_embed(column.type, lists=True):
        raise no_embedding(place.file, name, column.type)
    refuse(column.is_null().to_numpy(), place, name, lambda row: "found nothing", "a list of numbers")
    lengths = pc.list_value_length(column).to_numpy()
    if len(lengths) == 0 or lengths[0] == 0:
        raise UserError(f"{place.file}: column '{name}': no embeddings; expected a list of numbers in every row")
    expected = f"{lengths[0]} numbers, as in the first row"
    refuse(lengths != lengths[0], place, name, lambda row: f"a list of {lengths[row]}", expected)
    values = pc.list_flatten(column).cast(pa.float64()).to_numpy().reshape(-1, lengths[0])
    refuse(~np.isfinite(values).all(axis=1), place, name, lambda row: "a number that is not finite", "finite numbers")
    return values
