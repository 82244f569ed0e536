"""Features of items as tags: categories, lists of categories, and groups of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.log import Content
from prefrec_ray.logs.values import is_list, is_number, is_text, to_text

#: With more categories, a feature would make the state or the axes of embeddings too wide.
MAX_CATEGORIES = 512
#: Separates the categories of one cell, as in Action|Comedy.
SEPARATOR = "|"
#: A column of numbers with more than `_FEW` distinct values is cut into `_GROUPS` groups of equal size.
_FEW, _GROUPS = 24, 10


def tags_of(column: pa.ChunkedArray, place: Place, name: str) -> pa.ListArray:
    """Return the tags `name=category` of each cell: none for an empty cell, several for A|B|C or for a list.

    Raises `UserError` for another type and for more than `MAX_CATEGORIES` categories, and `BadRows` for bytes that are
    not UTF-8.
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
    row, named = pc.list_parent_indices(lists).to_numpy(), pc.fill_null(pc.not_equal(parts, ""), False)
    parts, row = parts.filter(named), row[named.to_numpy(zero_copy_only=False)]
    size = len(pc.unique(parts))
    if size > MAX_CATEGORIES:
        raise UserError(
            f"{place.file}: column '{name}' has {size} categories; expected at most {MAX_CATEGORIES} (merge similar "
            "ones, or omit it)"
        )
    tags = pc.binary_join_element_wise(pa.scalar(name), parts, "=")
    return pa.ListArray.from_arrays(np.searchsorted(row, np.arange(len(column) + 1)).astype(np.int32), tags)


def all_tags(columns: list[pa.ListArray]) -> pa.ListArray:
    """Join the tags of several features, row by row."""
    first, *others = columns
    for other in others:
        row = np.concatenate([pc.list_parent_indices(one).to_numpy() for one in (first, other)])
        values = pa.concat_arrays([first.flatten(), other.flatten()]).take(pa.array(row.argsort(kind="stable")))
        ends = np.searchsorted(np.sort(row), np.arange(len(first) + 1)).astype(np.int32)
        first = pa.ListArray.from_arrays(ends, values)
    return first


@dataclass(frozen=True, eq=False)
class TableContent:
    """Content of items, from a table of `item_id` and `tags`. Items that are not in the table have no tags."""

    items: pa.Table

    def __call__(self, ids: np.ndarray) -> Content:
        """Return the tags of `ids`, for embeddings (mdp/content.py)."""
        lists = self.items["tags"].combine_chunks()
        row = pc.index_in(self.items["item_id"], pa.array(ids)).to_numpy(zero_copy_only=False)
        row = row[pc.list_parent_indices(lists).to_numpy()]
        known = np.isfinite(row)
        names, column = np.unique(lists.flatten().to_numpy(zero_copy_only=False), return_inverse=True)
        place = row[known].astype(np.int64), column[known]
        matrix = sparse.csr_array((np.ones(int(known.sum()), np.float32), place), shape=(len(ids), len(names)))
        matrix.data[:] = 1.0  # a repeated tag counts once
        return Content(matrix, np.full(len(ids), -1, dtype=np.int64))


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
    names = np.array([f"{low:g} to {high:g}" for low, high in pairwise(borders)])
    return pa.chunked_array([pa.array(names[group], pa.string(), mask=~known)])
