"""Conversion of ids, numbers and times to int64, text and float64. All bad rows of a column are refused at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import BadRows, Place, to_python
from prefrec_ray.settings import END_OF_TIME

#: Pattern of text that may be a number; Arrow decides if it is a number in range.
_LIKE = {
    pa.int64(): r"^-?(\d+|0[xX][0-9a-fA-F]+)$",
    pa.float64(): r"^(?i)[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan(\(.*\))?)$",
}
FINITE = "a finite number"
#: Pattern of a number with a decimal comma, which is text here: 1,234 may be a thousand.
DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_UUID = pa.binary(16)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ISO = r"^\d{4}-\d\d-\d\d([T ].*)?$"
_MANY_DIGITS = r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{6})\d+"
_OFFSET = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"


def to_ids(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str) -> pa.ChunkedArray:
    """Return ids as int64 or string. Raises `BadRows`, also for text that would become equal to another text."""
    refuse(column.is_null().to_numpy(), place, name, lambda row: "no id", "one in every row")
    if kind == pa.int64():
        if is_text(column.type):
            expected = "an integer id without leading zeros, as in the rows before"
            refuse(padded(column), place, name, lambda row: f"found {to_python(column[row])!r}", expected)
        unsigned = pa.types.is_uint64(column.type)
        return cast(column, kind, place, name, "an integer id below 2^63, or text" if unsigned else "an integer id")
    ids = to_text(column, place, name)
    # NumPy strips NUL from the end of a string.
    nul = _flags(pc.match_substring(ids, "\0"))
    refuse(nul, place, name, lambda row: f"found {ids[row].as_py()!r}", "an id without NUL")
    return ids


def to_text(column: pa.ChunkedArray, place: Place, name: str) -> pa.ChunkedArray:
    """Return strings. Raises `BadRows` for bytes that are not UTF-8, since Parquet does not check them."""
    written = cast(column, pa.string(), place, name, "text").cast(pa.binary())
    return cast(written, pa.string(), place, name, "text in UTF-8")


def to_integers(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """Return int64 [n]; the text 007 is 7. Raises `BadRows`."""
    refuse(column.is_null().to_numpy(), place, name, lambda row: "no number", "one in every row")
    return cast(column, pa.int64(), place, name, "an integer").to_numpy()


def padded(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a mask of texts that are integers in an unusual form (007, -0, 0x1F), which must stay text, bool [n]."""
    return _flags(pc.match_substring_regex(column, "^(-?0[0-9xX]|-0$)"))


def to_numbers(column: pa.ChunkedArray, place: Place, name: str) -> np.ndarray:
    """Return float64 [n], NaN for null; booleans, and the texts true and false, are 1 and 0. Raises `BadRows`."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if is_text(column.type):
        try:
            return column.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            for text, digit in (("true", "1"), ("false", "0")):
                column = pc.replace_substring_regex(column, f"(?i)^{text}$", digit)
    return cast(column, pa.float64(), place, name, "a number").to_numpy()


def finite(values: np.ndarray, place: Place, name: str, expected: str = FINITE) -> np.ndarray:
    """Return `values` if all are finite and at most 1e12 in size. Raises `BadRows`."""
    refuse(~np.isfinite(values), place, name, lambda row: f"found {shown(values[row])}", expected)
    # Values are stored as float32, whose sums and squares must not overflow.
    check_range(values, -1e12, 1e12, place, name, "a number between -1e12 and 1e12")
    return values


def check_range(values: np.ndarray, low: float, high: float, place: Place, name: str, expected: str) -> None:
    """Raise `BadRows` for the rows with values below `low` or above `high`; NaN is neither."""
    refuse((values < low) | (values > high), place, name, lambda row: f"found {shown(values[row])}", expected)


def refuse(bad: np.ndarray, place: Place, name: str, found: Callable[[int], str], expected: str) -> None:
    """Raise `BadRows` for the rows with `bad` (bool [n]) true; `found(row)` describes the first bad row."""
    if bad.any():
        rows = np.flatnonzero(bad)
        raise BadRows(place, name, rows, found(int(rows[0])), expected)


def cast(column: pa.ChunkedArray, kind: pa.DataType, place: Place, name: str, expected: str) -> pa.ChunkedArray:
    """Cast `column` to `kind`. Raises `BadRows` for rows that cannot be cast, and `UserError` if no row can be."""
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError as error:
        raise UserError(f"{place.file}: column '{name}' is {column.type}; expected {expected}") from error
    except pa.ArrowInvalid as error:
        rows = failing_rows(column, kind, _LIKE.get(kind))
        found = to_python(column[int(rows[0])])
        comma = " with a decimal comma" if isinstance(found, str) and re.fullmatch(DECIMAL_COMMA, found) else ""
        raise BadRows(place, name, rows, f"found {shown(found)}{comma}", expected) from error


def failing_rows(column: pa.ChunkedArray, kind: pa.DataType, like: str | None) -> np.ndarray:
    """Return the rows, ascending, whose cast to `kind` fails: text that does not match `like`; others by halving."""
    no_match = np.zeros(len(column), dtype=bool)
    if like is not None and is_text(column.type):
        no_match = ~pc.match_substring_regex(column, like).fill_null(True).to_numpy().astype(bool)
    rest = np.flatnonzero(~no_match)
    values = column.take(pa.array(rest)).combine_chunks()
    failing, pending = [], [(0, len(rest))] if len(rest) else []
    while pending:
        first, size = pending.pop()
        try:
            values.slice(first, size).cast(kind)
        except pa.ArrowInvalid:
            if size == 1:
                failing.append(rest[first])
            else:
                half = size // 2
                pending += [(first, half), (first + half, size - half)]
    return np.sort(np.concatenate([np.flatnonzero(no_match), np.array(failing, dtype=np.int64)]))


def shown(value: object) -> str:
    """Return the text of `value` for an error message."""
    if isinstance(value, float) and np.isnan(value):
        return "NaN or nothing"
    if isinstance(value, float) and np.isinf(value):
        return "infinity"
    return repr(value.item() if isinstance(value, np.generic) else value)


def visible(text: str) -> str:
    """Return `text`, quoted if it has blanks at its ends or characters that do not print, such as a new line."""
    return text if text.isprintable() and text == text.strip() else repr(text)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read.

    Text, bytes and decimals have variants that few functions of Arrow accept, and named types (JSON) are not accepted
    at all. UUIDs, which are 16 bytes, become text.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return pa.string() if pa.types.is_string_view(kind) else pa.binary()
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    return pa.string() if kind == _UUID else kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns with the types in which they are read."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain(table: pa.Table) -> pa.Table:
    """Return the table with the types in which it is read."""
    columns = [_uuids_as_text(column) for column in table.columns]
    return pa.table(columns, names=table.column_names).cast(plain_schema(table.schema))


def _uuids_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return UUIDs as text in the form of RFC 9562, and other columns unchanged."""
    kind = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
    if kind != _UUID:
        return column
    return pa.array([one and str(UUID(bytes=one)) for one in column.cast(_UUID).to_pylist()], pa.string())


def is_text(kind: pa.DataType) -> bool:
    """Return True if a column is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_list(kind: pa.DataType) -> bool:
    """Return True if a column is lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_number(kind: pa.DataType) -> bool:
    """Return True if a column contains numbers or flags."""
    types = pa.types
    return any(check(kind) for check in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal))


def _flags(flags: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(flags, False).to_numpy(zero_copy_only=False).astype(bool)


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
    if is_text(column.type) and unit is None:
        values = _parse(column, pattern, zone, place, name) if pattern else _parse_iso(column, zone, place, name)
    elif pa.types.is_temporal(column.type):
        values = _moments(column if pa.types.is_timestamp(column.type) else column.cast(pa.timestamp("ms")), zone)
    elif unit is None:
        raise UserError(f"{place.file}: column '{name}': times are numbers; expected time_unit: s, ms, us or ns")
    else:
        return _from_numbers(column, unit, place, name)
    outside = (values < 0) | (values >= 1000 * END_OF_TIME)
    refuse(outside, place, name, lambda row: f"found {to_python(column[row])}", "a time of 1970 to 2199")
    return values


def _from_numbers(column: pa.ChunkedArray, unit: str, place: Place, name: str) -> np.ndarray:
    per_second = PER_SECOND[unit]
    if is_text(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = cast(column, pa.float64(), place, name, f"a number of {unit}")
    whole = pa.types.is_integer(column.type)
    numbers = cast(column, pa.int64() if whole else pa.float64(), place, name, f"a number of {unit}")
    values = numbers.to_numpy()
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
            bad[row] = "range" in str(error)  # other words in Python 3.14
    return bad


def _moments(column: pa.ChunkedArray, zone: str | None) -> np.ndarray:
    if zone is not None and column.type.tz is None:
        column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    return column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64()).to_numpy()
