"""Conversion of a log's columns to canonical columns. Bad values are refused by file, column and row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.times import to_milliseconds
from prefrec_ray.logs.values import finite, refuse, shown, to_ids, to_numbers

_MAX_DWELL_MS = 100 * 365 * 24 * 3_600_000
_EXPECTED = {
    "binary": "0 or 1",
    "count": "a whole number of at least 0",
    "seconds": "at least 0 seconds",
    "ratio": "a ratio of at least 0",
}


@dataclass(frozen=True)
class ColumnMap:
    """Roles of the columns of the files, and the types of ids."""

    user: str
    item: str
    time: str
    feedback: Mapping[str, str]  # name: column
    time_unit: str | None = "ms"
    session: str | None = None
    dwell: str | None = None
    dwell_unit: str = "ms"
    reward: str | None = None
    propensity: str | None = None
    id_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # by column; default int64
    kinds: Mapping[str, str] = field(default_factory=dict)  # by feedback name; default "number"
    missing: Mapping[str, float] = field(default_factory=dict)  # by feedback name: the value of an empty cell
    time_zone: str | None = None
    time_format: str | None = None

    @property
    def ids(self) -> list[str]:
        """Return the columns of ids."""
        return [name for name in (self.user, self.item, self.session) if name is not None]

    @property
    def columns(self) -> list[str]:
        """Return all columns to read, each once."""
        names = (*self.ids, self.time, self.dwell, *self.feedback.values(), self.reward, self.propensity)
        return list(dict.fromkeys(name for name in names if name is not None))

    def __call__(self, table: pa.Table, place: Place) -> pa.Table:
        """Return the rows of `table` as canonical interactions (`logs.log.Log`). Raises `BadRows` for bad values."""

        def ids(name: str) -> pa.ChunkedArray:
            return to_ids(table[name], self.id_types.get(name, pa.int64()), place, name)

        columns = {"user_id": ids(self.user), "item_id": ids(self.item)}
        columns["timestamp"] = to_milliseconds(
            table[self.time], self.time_unit, place, self.time, self.time_zone, self.time_format
        )
        columns["order"] = place.order(table.num_rows)
        if self.session:
            columns["session_id"] = ids(self.session)
        if self.dwell:
            columns["dwell_ms"] = _dwell(table[self.dwell], self.dwell_unit, place, self.dwell)
        for name, column in self.feedback.items():
            values = _feedback(table[column], self.kinds.get(name, "number"), self.missing.get(name), place, column)
            columns[name] = values.astype(np.float32)
        if self.reward:
            reward = finite(to_numbers(table[self.reward], place, self.reward), place, self.reward)
            columns["reward"] = reward.astype(np.float32)
        if self.propensity:
            columns["propensity"] = _propensity(table[self.propensity], place, self.propensity)
        return pa.table(columns)


def _feedback(column: pa.ChunkedArray, kind: str, missing: float | None, place: Place, name: str) -> np.ndarray:
    values = to_numbers(column, place, name)
    if missing is not None:
        values = np.where(column.is_null().to_numpy(), missing, values)
    finite(values, place, name)
    if kind != "number":
        bad = (values != 0) & (values != 1) if kind == "binary" else values < 0
        if kind == "count":
            bad |= values != np.floor(values)
        refuse(bad, place, name, lambda row: f"found {shown(float(values[row]))}", _EXPECTED[kind])
    return values


def _dwell(column: pa.ChunkedArray, unit: str, place: Place, name: str) -> np.ndarray:
    values = to_numbers(column, place, name) * (1000.0 if unit == "s" else 1.0)
    bad = (values < 0) | (values > _MAX_DWELL_MS)
    expected = "a dwell of at least 0 (and less than a century), or nothing"
    refuse(bad, place, name, lambda row: f"found {shown(values[row])}", expected)
    return values


def _propensity(column: pa.ChunkedArray, place: Place, name: str) -> pa.Array:
    """Return propensities as float32, null if unknown."""
    values = to_numbers(column, place, name)
    bad = (values < np.finfo(np.float32).tiny) | (values > 1)
    expected = "a propensity above 0 (at least 1.2e-38) and of at most 1, or nothing"
    refuse(bad, place, name, lambda row: f"found {shown(values[row])}", expected)
    return pa.array(values.astype(np.float32), from_pandas=True)
