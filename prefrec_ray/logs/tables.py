"""Small tables of a log: features of users; embeddings, features and titles of items."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.contract import Part, Place
from prefrec_ray.logs.fragments import read_clean
from prefrec_ray.logs.log import Content
from prefrec_ray.logs.schemas import PLAIN, CsvFormat, check_columns, check_embedding
from prefrec_ray.logs.side_tables import ItemsTable, UsersTable
from prefrec_ray.logs.values import finite, is_list, is_number, is_text, refuse, to_ids, to_numbers, to_text

#: With more categories, a feature would make the state or the axes of embeddings too wide.
MAX_CATEGORIES = 512
#: Separates the categories of one cell, as in Action|Comedy.
SEPARATOR = "|"
#: A column of numbers with more than `_FEW` distinct values is cut into `_GROUPS` groups of equal size.
_FEW, _GROUPS = 24, 10


def user_table(source: UsersTable, id_type: pa.DataType, part: Part | None = None, form: CsvFormat = PLAIN) -> pa.Table:
    """Return user_id and the features as text (null: unknown). Bad rows go to `part`; raises `UserError`."""

    def convert(table: pa.Table, place: Place) -> pa.Table:
        ids = _unique_ids(table[source.id], id_type, place, source.id)
        return pa.table({"user_id": ids, **{name: _texts(table[name], place, name) for name in source.features}})

    file, _, form = check_columns(source, form)
    table = read_clean(file, source.columns, convert, part, form)
    for name in source.features:
        _check_categories(table[name], file, name)
    return table


def item_table(source: ItemsTable, id_type: pa.DataType, part: Part | None = None, form: CsvFormat = PLAIN) -> pa.Table:
    """Return item_id (first), embedding (fixed_size_list<float32>), tags (list<string>) and title, if known."""

    def convert(table: pa.Table, place: Place) -> pa.Table:
        columns = {}
        if source.embedding:
            columns["embedding"] = _embedding(table, source, place)
        ids = _unique_ids(table[source.id], id_type, place, source.id)
        if source.features:
            tags = [tags_of(table[name], place, name) for name in source.features]
            row, tag = np.concatenate([of[0] for of in tags]), pa.concat_arrays([of[1] for of in tags])
            columns["tags"] = by_row(row, tag, table.num_rows)
        texts = {name: _texts(table[column], place, column) for name, column in source.about.items()}
        return pa.table({"item_id": ids, **columns, **texts})

    file, _, form = check_columns(source, form)
    return read_clean(file, source.columns, convert, part, form)


def join_items(tables: Sequence[pa.Table], places: Sequence[str]) -> pa.Table:
    """Return the rows (item_id, embedding) of all tables, each item once.

    Raises `UserError` if an item has two embeddings.
    """
    items = tables[0]
    for table, place in zip(tables[1:], places[1:], strict=True):
        width, found = items["embedding"].type.list_size, table["embedding"].type.list_size
        if found != width:
            raise UserError(f"{place}: found embeddings of {found} numbers; expected {width} as in {places[0]}")
        row = pc.index_in(table["item_id"], items["item_id"].combine_chunks())
        old = table.filter(pc.is_valid(row))
        sides = (old["embedding"], items["embedding"].take(row.drop_null()))
        embeddings, expected = (pc.list_flatten(side).to_numpy().reshape(-1, width) for side in sides)
        differ = np.flatnonzero((embeddings != expected).any(axis=1))
        if len(differ):
            item = old["item_id"][int(differ[0])]
            raise UserError(f"{place}: item {item}: found another embedding; expected the same as in {places[0]}")
        items = pa.concat_tables([items, table.filter(pc.is_null(row))])
    return items


def join_texts(tables: Sequence[pa.Table], key: str, ids: pa.Array, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Return columns of text for `ids`: of each, the value in the first table that has one, else null.

    `key`: the column of ids in `tables`. Each of `names` is a column of at least one table.
    """
    columns = {}
    for name in names:
        of_tables = [table for table in tables if name in table.column_names]
        found = [table[name].take(pc.index_in(ids, table[key].combine_chunks())) for table in of_tables]
        columns[name] = pc.coalesce(*found)
    return columns


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


def _embedding(table: pa.Table, source: ItemsTable, place: Place) -> pa.Array:
    """Return embeddings as fixed_size_list<float32>. Raises `BadRows`, and `UserError` for a column of another type."""

    def within(values: np.ndarray, name: str) -> np.ndarray:
        size = np.abs(values)

        def largest(row: int) -> str:
            return f"found {values[row][size[row].argmax()]}"

        refuse((size > 1.0).any(axis=1), place, name, largest, "numbers within [-1, 1]")
        return values

    if isinstance(source.embedding, str):
        values = within(_list_column(table[source.embedding], place, source.embedding), source.embedding)
    else:
        names = source.embedding_columns
        numbers = (finite(to_numbers(table[name], place, name), place, name) for name in names)
        columns = [within(column[:, np.newaxis], name) for column, name in zip(numbers, names, strict=True)]
        values = np.concatenate(columns, axis=1)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])


def _list_column(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """Return lists of equal length as float64 [n, d]. Raises `BadRows`, and `UserError` for another type."""
    check_embedding(place.file, name, column.type)
    refuse(column.is_null().to_numpy(), place, name, lambda row: "found nothing", "a list of numbers")
    lengths = pc.list_value_length(column).to_numpy()
    if len(lengths) == 0 or lengths[0] == 0:
        raise UserError(f"{place.file}: column '{name}': no embeddings; expected a list of numbers in every row")
    expected = f"{lengths[0]} numbers, as in the first row"
    refuse(lengths != lengths[0], place, name, lambda row: f"a list of {lengths[row]}", expected)
    values = pc.list_flatten(column).cast(pa.float64()).to_numpy().reshape(-1, lengths[0])
    refuse(~np.isfinite(values).all(axis=1), place, name, lambda row: "a number that is not finite", "finite numbers")
    return values


def tags_of(column: pa.ChunkedArray, place: Place, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return the tags `name=category` of all cells (A|B|C or a list: several), and the row (int64) of each tag.

    Raises `UserError` for another type and more than `MAX_CATEGORIES` categories, `BadRows` for text that is not UTF-8.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return tags_of(column.cast(kind.value_type), place, name)
    if is_list(kind) and (is_text(kind.value_type) or pa.types.is_integer(kind.value_type)):
        lists = column.cast(pa.list_(pa.string())).combine_chunks()
    else:
        numbers = _numbers(column)
        if numbers is not None and pc.count_distinct(numbers).as_py() > _FEW:
            column = _groups(numbers)
        elif not (is_text(kind) or is_number(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
            raise UserError(f"{place.file}: column '{name}' is {kind}; expected categories: text, numbers or lists")
        lists = pc.split_pattern(to_text(column.cast(pa.string()), place, name), SEPARATOR).combine_chunks()
    parts = pc.utf8_trim_whitespace(lists.flatten())
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()  # a null of a fixed size still has values
    row, named = np.repeat(np.arange(len(lists)), sizes), pc.fill_null(pc.not_equal(parts, ""), False)
    parts, row = parts.filter(named), row[named.to_numpy(zero_copy_only=False)]
    _check_categories(parts, place.file, name)
    return row, pc.binary_join_element_wise(pa.scalar(name), parts, "=")


def by_row(row: np.ndarray, values: pa.Array, rows: int) -> pa.ListArray:
    """Return `values` [n] as a list for each of `rows` rows; `row` [n] is the row of each value."""
    ends = np.searchsorted(np.sort(row), np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(ends, values.take(pa.array(row.argsort(kind="stable"))))


def content_of(items: pa.Table, ids: np.ndarray) -> Content:
    """Return the tags of `ids`, from a table of `item_id` and `tags`; items that are not in the table have no tags."""
    lists = items["tags"].combine_chunks()
    row = pc.fill_null(pc.index_in(items["item_id"], pa.array(ids)), -1).to_numpy()
    row = row[pc.list_parent_indices(lists).to_numpy()].astype(np.int64)
    tags = lists.flatten().to_numpy(zero_copy_only=False)
    return Content.from_pairs(row, tags, np.full(len(ids), -1, dtype=np.int64))


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return the column as float64, with NaN for empty cells; None for flags, and if a cell is any other text."""
    if not (is_text(column.type) or is_number(column.type)) or pa.types.is_boolean(column.type):
        return None
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _groups(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the range of the group of each number, as text; groups are cut at quantiles."""
    values = numbers.to_numpy(zero_copy_only=False)
    known = ~np.isnan(values)
    borders = np.unique(np.quantile(values[known], np.linspace(0, 1, _GROUPS + 1)))
    group = np.searchsorted(borders[1:-1], values, side="right")
    for digits in range(6, 18):  # 17 digits distinguish any two numbers
        texts = [f"{border:.{digits}g}" for border in borders]
        if len(set(texts)) == len(texts):
            break
    names = np.array([f"{low} to {high}" for low, high in pairwise(texts)])
    return pa.chunked_array([pa.array(names[group], pa.string(), mask=~known)])


def _check_categories(values: pa.Array | pa.ChunkedArray, file: str, name: str) -> None:
    size = len(pc.unique(values))
    if size > MAX_CATEGORIES:
        raise UserError(
            f"{file}: column '{name}' has {size} categories; expected at most {MAX_CATEGORIES} (merge similar ones, or "
            "omit it)"
        )
