"""Conversion of times to ms since 1970, UTC."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import BadRows, Place, plain
from prefrec_ray.logs.values import cast, failing_rows, is_text, refuse, to_numbers, to_text
from prefrec_ray.settings import END_OF_TIME

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ISO = r"^\d{4}-\d\d-\d\d([T ].*)?$"
_MANY_DIGITS = r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{6})\d+"
_OFFSET = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"


def to_milliseconds(
    column: pa.ChunkedArray,
    unit: str | None,
    place: Place,
    name: str,
    zone: str | None = None,
    pattern: str | None = None,
) -> np.ndarray:
    """Return timestamps as int64 ms, UTC, rounded down.

    unit: of numbers (s, ms, us, ns). zone: of times without one (IANA; None: UTC); a clock time that occurs twice is
    the earlier moment, and a skipped clock time is the moment of the change. pattern: the format of text (strftime;
    None: ISO 8601). Raises `BadRows`, and `UserError` for numbers without a unit.
    """
    refuse(column.is_null().to_numpy(), place, name, lambda row: "no time", "one in every row")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        column = to_text(column, place, name)
    if is_text(column.type) and unit in (None, "iso"):
        values = _parse(column, pattern, zone, place, name) if pattern else _parse_iso(column, zone, place, name)
    elif pa.types.is_temporal(column.type):
        values = _moments(column if pa.types.is_timestamp(column.type) else column.cast(pa.timestamp("ms")), zone)
    elif unit in (None, "iso"):
        raise UserError(f"{place.file}: column '{name}': times are numbers; expected time_unit: s, ms, us or ns")
    else:
        return _from_numbers(column, unit, place, name)
    outside = (values < 0) | (values >= 1000 * END_OF_TIME)
    refuse(outside, place, name, lambda row: f"found {plain(column[row])}", "a time of 1970 to 2199")
    return values


def _from_numbers(column: pa.ChunkedArray, unit: str, place: Place, name: str) -> np.ndarray:
    per_second = PER_SECOND[unit]
    if is_text(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = cast(column, pa.float64(), place, name, f"a number of {unit}")
    whole = pa.types.is_integer(column.type)
    values = (
        cast(column, pa.int64(), place, name, f"a number of {unit}").to_numpy()
        if whole
        else to_numbers(column, place, name)
    )
    with np.errstate(invalid="ignore"):
        outside = ~((values >= 0) & (values < per_second * END_OF_TIME))
    expected = f"{unit} since 1970, before 2200 (or another time_unit)"
    refuse(outside, place, name, lambda row: f"found {values[row]}", expected)
    if whole:
        return values * 1000 if unit == "s" else values // (per_second // 1000)
    return np.floor(values * (1000.0 / per_second)).astype(np.int64)


def _parse_iso(column: pa.ChunkedArray, zone: str | None, place: Place, name: str) -> np.ndarray:
    """Parse text in ISO 8601; times without an offset are in `zone`."""
    aware, naive = pa.timestamp("us", "UTC"), pa.timestamp("us")
    for kind in (aware, naive):
        try:
            return _moments(column.cast(kind), zone)
        except pa.ArrowInvalid:
            continue
    written, column = column, pc.replace_substring_regex(column, _MANY_DIGITS, r"\1")  # Arrow reads six
    offset = pc.match_substring_regex(column, _OFFSET).to_numpy().astype(bool)
    parts = [(np.flatnonzero(offset), aware), (np.flatnonzero(~offset), naive)]
    bad = np.sort(np.concatenate([rows[failing_rows(column.take(rows), kind, _ISO)] for rows, kind in parts]))
    if len(bad):
        expected = "a time in ISO 8601 (for numbers give time_unit)"
        raise BadRows(place, name, bad, f"found {written[int(bad[0])].as_py()!r}", expected)
    values = np.empty(len(column), dtype=np.int64)
    for rows, kind in parts:
        values[rows] = _moments(column.take(rows).cast(kind), zone)
    return values


def _parse(column: pa.ChunkedArray, pattern: str, zone: str | None, place: Place, name: str) -> np.ndarray:
    times = pc.strptime(column, format=pattern, unit="ms", error_is_null=True)
    bad = times.is_null().to_numpy()
    bad |= _invalid_days(column, times, pattern)
    refuse(bad, place, name, lambda row: f"found {column[row].as_py()!r}", f"a time like {pattern}")
    return _moments(times, zone)


def _invalid_days(column: pa.ChunkedArray, times: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """Return a mask of texts with a day that does not exist, bool [n]. The C library reads 31/02 as 2 March."""
    late = pc.and_(pc.match_substring_regex(column, "29|30|31"), pc.is_valid(times))
    if times.type.tz is None:  # with a zone, the day of the month may differ
        late = pc.and_(late, pc.less_equal(pc.day(times), 3))
    bad = np.zeros(len(column), dtype=bool)
    for row in np.flatnonzero(late.fill_null(False).to_numpy()):
        try:
            datetime.strptime(column[int(row)].as_py(), pattern)
        except ValueError as error:
            bad[row] = "day is out of range" in str(error)
    return bad


def _moments(column: pa.ChunkedArray, zone: str | None) -> np.ndarray:
    if zone is not None and column.type.tz is None:
        column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    return column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64()).to_numpy()
