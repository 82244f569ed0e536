"""Canonical form of every log, and the conversion of columns to it. Bad values are refused by file, column and row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from prefrec_ray.ids import changes, codes
from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.feedback_column import EXPECTED, FeedbackColumn
from prefrec_ray.logs.sources import PAGE_BY_TIME, ColumnsSource
from prefrec_ray.logs.values import (
    FINITE,
    check_range,
    finite,
    refuse,
    shown,
    to_ids,
    to_integers,
    to_milliseconds,
    to_numbers,
    to_text,
)

if TYPE_CHECKING:
    import ray.data

#: Expectation for rows that are equal in all columns.
UNIQUE = "each interaction once (source.duplicates: keep allows more)"
_OR_MISSING = f"{FINITE}, or the key `missing:` of this feedback"
_MAX_DWELL_MS = 100 * 365 * 24 * 3_600_000
_MAX_POSITION = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Content:
    """Content of I items: their tags and makers."""

    tags: sparse.csr_array  # [I, T], 1 for each tag of an item
    feature: np.ndarray  # int64 [T], number of each tag's feature, from 0
    maker: np.ndarray  # int64 [I], -1 if unknown
    features: tuple[str, ...]  # names of the features
    categories: tuple[str, ...]  # names of the T tags, without the feature
    maker_name: str = "maker"  # name of the maker's column

    @classmethod
    def from_pairs(cls, item: np.ndarray, tag: np.ndarray, maker: np.ndarray, maker_name: str = "maker") -> Content:
        """Return the content from pairs [n] of an item's row (int64, -1: unknown) and its TAG or FEATURE=CATEGORY."""
        names, column = np.unique(tag, return_inverse=True)
        known = item >= 0
        ones = np.ones(int(known.sum()), np.float32)
        matrix = sparse.csr_array((ones, (item[known], column[known])), shape=(len(maker), len(names)))
        matrix.data[:] = 1.0  # a repeated tag counts once
        parts = [text.split("=", 1) if "=" in text else ["", text] for text in map(str, names)]
        features, feature = np.unique([part[0] for part in parts], return_inverse=True)
        return cls(
            tags=matrix,
            feature=feature,
            maker=maker,
            features=tuple(name or "tag" for name in features.tolist()),
            categories=tuple(part[1] for part in parts),
            maker_name=maker_name,
        )


#: Returns the content of items by their ids, ascending.
ContentOf: TypeAlias = Callable[[np.ndarray], Content]


class LoggedSource(NamedTuple):
    """A log, or one source of a joined log.

    `files`: the files whose rows `order` numbers (logs/contract.py). `unique_rows`: rows that are equal except for
    `order` break the contract. `by_position`: rows of a page are ordered by position, and not as in the log.
    `all_examined`: users saw all items of a page, or a column shows which.
    """

    files: tuple[str, ...] = ()
    unique_rows: bool = False
    by_position: bool = True
    all_examined: bool = True


def first_files(sources: Sequence[LoggedSource]) -> list[int]:
    """Return the number of the first file of each source."""
    return list(accumulate((len(one.files) for one in sources[:-1]), initial=0))


@dataclass(frozen=True, eq=False)
class Log:
    """Interactions, read by Ray Data or by `tables` in this process (None: only by Ray); tables of users and items."""

    # user_id, item_id (int64 or string), timestamp (int64, ms UTC), order (int64: position in the log, breaks ties of
    # time)[, session_id (int64 or string)][, page (int64 or string)][, position (int32, null if unknown)][, examined
    # (bool)][, dwell_ms (float64, NaN if unknown)][, reward (float32)][, propensity (float32, null if unknown)][,
    # pinned (bool: placed by the platform, not chosen by a policy)][, row_hash (int64, equal for rows that are equal in
    # every column of the file; only the first of such rows is kept)], and one float32 column per feedback
    interactions: Callable[[], ray.data.Dataset]
    rows: int  # number of interactions; for CSV files an estimate from their size
    feedback: tuple[str, ...]  # names of the feedback columns, in the order of the state
    user_ids: pa.DataType = field(default_factory=pa.int64)  # type of user_id: int64 or string
    item_ids: pa.DataType = field(default_factory=pa.int64)
    feedback_kinds: Mapping[str, str] = field(default_factory=dict)  # their kinds (mdp.state); default "number"
    users: pa.Table | None = None  # user_id and one string column per feature (null: unknown)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of features; default: values that occur
    items: pa.Table | None = None  # item_id, embedding (fixed_size_list<float32>), in [-1, 1]
    # Takes ascending ids. Kinds of items are made from it, and embeddings if `items` is None.
    content: ContentOf | None = None
    about: pa.Table | None = None  # table of items without embeddings: item_id[, title], as text
    sources: tuple[LoggedSource, ...] = (LoggedSource(),)
    given_sessions: bool = False  # session_id defines sessions, not the session timeout
    has_pages: bool = False  # rows of one user with equal `page`, one after another, were shown at once
    has_examined: bool = False  # rows that are not `examined` do not count as impressions
    has_reward: bool = False  # the log has a reward column, which is not part of the state
    has_propensity: bool = False  # the log has the logging policy's propensity of the item
    world: dict[str, Any] | None = None  # the simulator's settings, for roll-outs
    tables: Callable[[], Iterator[pa.Table]] | None = None


def to_canonical(table: pa.Table, place: Place, source: ColumnsSource, id_types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return rows as canonical interactions; `id_types` int64 or string by column. Raises `BadRows` for bad values."""

    def ids(name: str) -> pa.ChunkedArray:
        return to_ids(table[name], id_types[name], place, name)

    columns = {"user_id": ids(source.user), "item_id": ids(source.item)}
    columns["timestamp"] = to_milliseconds(
        table[source.time], source.time_unit, place, source.time, source.time_zone, source.time_format
    )
    columns["order"] = place.order(table.num_rows)
    if source.session:
        columns["session_id"] = ids(source.session)
    if source.page:
        columns["page"] = columns["timestamp"] if source.page == PAGE_BY_TIME else ids(source.page)
    if source.position:
        columns["position"] = _position(table[source.position], place, source.position)
    if source.examined:
        examined = FeedbackColumn(column=source.examined, kind="binary")
        columns["examined"] = _feedback(table[source.examined], examined, place, FINITE) == 1
    if source.dwell:
        columns["dwell_ms"] = _dwell(table[source.dwell], source.dwell_unit, place, source.dwell)
    for name, feedback in source.feedback.items():
        columns[name] = _feedback(table[feedback.column], feedback, place).astype(np.float32)
    if source.reward:
        reward = finite(to_numbers(table[source.reward], place, source.reward), place, source.reward)
        columns["reward"] = reward.astype(np.float32)
    if source.propensity:
        columns["propensity"] = _propensity(table[source.propensity], place, source.propensity)
    return pa.table(columns)


def _feedback(
    column: pa.ChunkedArray, feedback: FeedbackColumn, place: Place, expected: str = _OR_MISSING
) -> np.ndarray:
    name, kind = feedback.column, feedback.kind
    if feedback.equals is not None:
        return pc.is_in(to_text(column, place, name), pa.array(feedback.equals)).to_numpy()
    values = to_numbers(column, place, name)
    if feedback.missing is not None:
        values = np.where(np.isnan(values), feedback.missing, values)
    finite(values, place, name, expected)
    if kind != "number":
        bad = (values != 0) & (values != 1) if kind == "binary" else values < 0
        if kind == "count":
            bad |= values != np.floor(values)
        refuse(bad, place, name, lambda row: f"found {shown(float(values[row]))}", EXPECTED[kind])
    return values


def _position(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    values = to_integers(column, place, name)
    check_range(values, 0, _MAX_POSITION, place, name, f"a position on the page of 0 to {_MAX_POSITION}")
    return values.astype(np.int32)


def _dwell(column: pa.ChunkedArray, unit: str, place: Place, name: str) -> np.ndarray:
    values, scale = to_numbers(column, place, name), 1000.0 if unit == "s" else 1.0
    expected = "a dwell of at least 0 (and less than a century), or nothing"
    check_range(values, 0, _MAX_DWELL_MS / scale, place, name, expected)  # in the unit of the log
    return values * scale


def _propensity(column: pa.ChunkedArray, place: Place, name: str) -> pa.Array:
    """Return propensities as float32, null if unknown."""
    values, tiny = to_numbers(column, place, name), float(np.finfo(np.float32).tiny)
    expected = "a propensity above 0 (at least 1.2e-38) and of at most 1, or nothing"
    check_range(values, tiny, 1, place, name, expected)
    return pa.array(values.astype(np.float32), from_pandas=True)


def equal_rows(rows: pa.Table) -> np.ndarray:
    """Return a mask of rows that repeat an earlier row in all columns except `order`. Sorted by user and time."""
    same = ~(changes(codes(rows["user_id"])) | changes(rows["timestamp"].to_numpy()))
    candidates = np.flatnonzero(same | np.append(same[1:], False))
    result = np.zeros(rows.num_rows, dtype=bool)
    if len(candidates):
        suspects = rows.take(pa.array(candidates))
        keys = [name for name in suspects.column_names if name != "order"]
        first = suspects.group_by(keys, use_threads=False).aggregate([("order", "min")]).columns[-1]
        result[candidates] = ~pc.is_in(suspects["order"], first.combine_chunks()).to_numpy()
    return result
