"""The unit of a column of times, found by the years that its numbers would be in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs.contract import BadRows, Place
from prefrec_ray.logs.times import PER_SECOND, to_milliseconds
from prefrec_ray.logs.values import is_text

#: 1995 to 2040, in s. No number is a date in this range in two units.
_FIRST, _LAST = 788_918_400, 2_208_988_800
_ENOUGH = 0.99  # share of the times that must fit, because good logs contain a few bad cells
_DIGITS = 8  # of a date, at least
_NUMBER = r"^\d+(\.\d*)?$"
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_PATTERNS = tuple(f"{date}{time}" for time in (" %H:%M:%S", " %H:%M:%S UTC", " %H:%M", "") for date in _DATES)


def time_unit(column: pa.ChunkedArray) -> str | None:
    """Return s, ms, us or ns for numbers, iso for text and timestamps; None for a column without times."""
    known = _known(column)
    kind = known.type
    if not len(known):
        return None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "iso"
    numbers = known
    if is_text(kind):
        if time_formats(known):
            return "iso"
        numbers = known.filter(pc.match_substring_regex(known, _NUMBER))  # text because of a single word
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    values = numbers.cast(pa.float64(), safe=False).to_numpy()
    for unit, per_second in PER_SECOND.items():
        fitting = (values >= _FIRST * per_second) & (values < _LAST * per_second)
        if fitting.sum() >= _ENOUGH * len(known):
            return unit
    return None


def time_formats(column: pa.ChunkedArray) -> list[str]:
    """Return the formats of times as text: "" for ISO 8601, or patterns of strftime; none if no format fits.

    Several formats read equally many times if no day is above 12; the first one then has the shortest span.
    """
    texts = _known(column)
    dates = pc.sum(pc.greater_equal(pc.utf8_length(texts), _DIGITS)).as_py()
    if not len(texts) or dates < _ENOUGH * len(texts):
        return []
    found = []
    for pattern in ("", *_PATTERNS):
        times, good = _milliseconds(texts, pattern)
        if good.sum() >= _ENOUGH * len(texts):
            if not pattern:
                return [""]
            found.append((-good.sum(), np.ptp(times[good]), pattern))
    return [pattern for count, _, pattern in sorted(found) if count == min(found)[0]]


def _milliseconds(texts: pa.ChunkedArray, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Return times as int64 ms, and whether each text is a time."""
    times, good = np.zeros(len(texts), dtype=np.int64), np.ones(len(texts), dtype=bool)
    while good.any():
        try:
            known = texts.filter(pa.array(good))
            times[good] = to_milliseconds(known, "iso", Place("", 0), "", pattern=pattern or None)
            break
        except BadRows as bad:
            good[np.flatnonzero(good)[bad.rows]] = False
    return times, good


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    known = column.drop_null()
    return known.cast(known.type.value_type) if pa.types.is_dictionary(known.type) else known
