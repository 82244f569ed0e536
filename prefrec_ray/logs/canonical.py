"""Columns of a log as given -> canonical columns; every bad value is found here, with its file, column and row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError

#: Files are numbered from 0 in the order of their names; a row's place in the log is file * 2^40 + row.
ROWS_OF_FILE = 1 << 40
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Place:
    """Where a table of rows stands in the log."""

    file: str
    number: int  # of the file
    first_row: int  # of the table in the file, from 0

    def problem(self, column: str, row: int, found: object, expected: str) -> UserError:
        """The error for `row` of the table; users count rows from 1."""
        return UserError(
            f"{self.file}: column '{column}', row {self.first_row + row + 1}: {found}; expected {expected}"
        )


@dataclass(frozen=True)
class ColumnMap:
    """Which columns of the files mean what, and the types of ids."""

    user: str
    item: str
    time: str
    feedback: Mapping[str, str]
    time_unit: str | None = "ms"
    session: str | None = None
    dwell: str | None = None
    dwell_unit: str = "ms"
    reward: str | None = None
    id_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # by column; int64 where nothing is said

    @property
    def ids(self) -> list[str]:
        """The columns of ids."""
        return [name for name in (self.user, self.item, self.session) if name is not None]

    @property
    def columns(self) -> list[str]:
        """All columns to read, each once."""
        given = (*self.ids, self.time, self.dwell, *self.feedback.values(), self.reward)
        return list(dict.fromkeys(name for name in given if name is not None))

    def __call__(self, table: pa.Table, place: Place) -> pa.Table:
        """The canonical interactions (`logs.log.Log`) of some rows of a file. Raises `UserError` for a bad value."""

        def ids(name: str) -> pa.ChunkedArray:
            return to_ids(table[name], self.id_types.get(name, pa.int64()), place, name)

        def numbers(name: str) -> np.ndarray:
            return finite(to_numbers(table[name], place, name), place, name)

        columns = {"user_id": ids(self.user), "item_id": ids(self.item)}
        columns["timestamp"] = to_milliseconds(table[self.time], self.time_unit, place, self.time)
        columns["order"] = place.number * ROWS_OF_FILE + place.first_row + np.arange(table.num_rows)
        if self.session:
            columns["session_id"] = ids(self.session)
        if self.dwell:
            columns["dwell_ms"] = _dwell(table[self.dwell], self.dwell_unit, place, self.dwell)
        for name, column in self.feedback.items():
            columns[name] = numbers(column).astype(np.float32)
        if self.reward:
            columns["reward"] = numbers(self.reward).astype(np.float32)
        return pa.table(columns)


def to_ids(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str) -> pa.ChunkedArray:
    """Ids as int64 or string."""
    if column.null_count:
        raise place.problem(name, _first(column.is_null()), "no id", "one in every row")
    return _cast(column, kind, place, name, "an integer id" if kind == pa.int64() else "text")


def to_numbers(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """float64 [n], NaN for null; booleans, and the words true and false, are 1 and 0."""
    if _is_text(column.type):
        with suppress(pa.ArrowInvalid):  # not these words: numbers, or an error that names the row
            column = column.cast(pa.bool_())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return _cast(column, pa.float64(), place, name, "a number").to_numpy()


def finite(values: np.ndarray, place: Place, name: str) -> np.ndarray:
    """`values`, all of them finite."""
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(bad.argmax())
        raise place.problem(name, row, f"found {_word(values[row])}", "a finite number")
    return values


def to_milliseconds(column: pa.ChunkedArray, unit: str | None, place: Place, name: str) -> np.ndarray:
    """Timestamps as int64 ms, UTC, rounded down."""
    if column.null_count:
        raise place.problem(name, _first(column.is_null()), "no time", "one in every row")
    if _is_text(column.type) and unit in (None, "iso"):
        column = _parse_iso(column, place, name)
    if pa.types.is_temporal(column.type):
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    if unit in (None, "iso"):
        raise UserError(f"{place.file}: column '{name}': times are numbers; expected time_unit: s, ms, us or ns")
    per_second = _PER_SECOND[unit]
    if _is_text(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = _cast(column, pa.float64(), place, name, f"a number of {unit}")
    if pa.types.is_integer(column.type):
        whole = column.cast(pa.int64()).to_numpy()
        return whole * 1000 if unit == "s" else whole // (per_second // 1000)
    values = finite(column.cast(pa.float64()).to_numpy(), place, name)
    return np.floor(values * (1000.0 / per_second)).astype(np.int64)


def _dwell(column: pa.ChunkedArray, unit: str, place: Place, name: str) -> np.ndarray:
    values = to_numbers(column, place, name) * (1000.0 if unit == "s" else 1.0)
    bad = np.isinf(values) | (values < 0)
    if bad.any():
        row = int(bad.argmax())
        raise place.problem(name, row, f"found {_word(values[row])}", "a dwell of at least 0, or nothing")
    return values


def _parse_iso(column: pa.ChunkedArray, place: Place, name: str) -> pa.ChunkedArray:
    """ISO 8601 as timestamps; all with an offset, or none with one."""
    try:
        return column.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return _cast(column, pa.timestamp("us"), place, name, "a time in ISO 8601 (for numbers give time_unit)")


def _cast(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str, expected: str) -> pa.ChunkedArray:
    """`column` as `kind`; the error names the first row that is none."""
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        row = _first_failure(lambda value: value.cast(kind), column)
        raise place.problem(name, row, f"found {_word(column[row].as_py())}", expected) from error


def _first_failure(convert: Callable[[pa.Scalar], object], column: pa.ChunkedArray) -> int:
    for row, value in enumerate(column):
        try:
            convert(value)
        except pa.ArrowInvalid:
            return row
    return 0


def _first(mask: pa.ChunkedArray) -> int:
    return pc.index(mask, True).as_py()


def _word(value: object) -> str:
    if isinstance(value, float) and np.isnan(value):
        return "NaN or nothing"
    if isinstance(value, float) and np.isinf(value):
        return "infinity"
    return repr(value)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
