"""Conversion of a log's columns to canonical columns. Bad values are refused by file, column and row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.sources import ColumnsSource, FeedbackColumn
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
class ToCanonical:
    """Conversion of the columns of a source to canonical interactions (`logs.log.Log`)."""

    source: ColumnsSource
    id_types: Mapping[str, pa.DataType]  # by column: int64 or string

    def __call__(self, table: pa.Table, place: Place) -> pa.Table:
        """Return the rows of `table` as canonical interactions. Raises `BadRows` for bad values."""
        source = self.source

        def ids(name: str) -> pa.ChunkedArray:
            return to_ids(table[name], self.id_types[name], place, name)

        columns = {"user_id": ids(source.user), "item_id": ids(source.item)}
        columns["timestamp"] = to_milliseconds(
            table[source.time], source.time_unit, place, source.time, source.time_zone, source.time_format
        )
        columns["order"] = place.order(table.num_rows)
        if source.session:
            columns["session_id"] = ids(source.session)
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


def _feedback(column: pa.ChunkedArray, feedback: FeedbackColumn, place: Place) -> np.ndarray:
    name, kind = feedback.column, feedback.kind
    values = to_numbers(column, place, name)
    if feedback.missing is not None:
        values = np.where(column.is_null().to_numpy(), feedback.missing, values)
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
