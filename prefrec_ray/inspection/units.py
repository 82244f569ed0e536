"""The unit of a column of times: the one that puts its numbers into years in which logs were written."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.times import PER_SECOND, to_milliseconds
from prefrec_ray.logs.values import is_text

#: 1995 to 2040, in s. In other units these years are other numbers: no number is such a date in two units.
_FIRST, _LAST = 788_918_400, 2_208_988_800
_ISO_DIGITS = 8  # of a date, at least
_HEAD = 1000
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y")
_PATTERNS = tuple(f"{date}{time}" for time in (" %H:%M:%S", " %H:%M:%S UTC", " %H:%M", "") for date in _DATES)


def time_unit(column: pa.ChunkedArray) -> str | None:
    """s, ms, us or ns for numbers, iso for text and timestamps; None where the column holds no times."""
    known = column.drop_null()
    kind = known.type
    if not len(known):
        return None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "iso"
    if is_text(kind):
        return "iso" if time_format(known) is not None else None
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    values = known.cast(pa.float64(), safe=False).to_numpy()
    for unit, per_second in PER_SECOND.items():
        if ((values >= _FIRST * per_second) & (values < _LAST * per_second)).all():
            return unit
    return None


def time_format(column: pa.ChunkedArray) -> str | None:
    """The format of times as text: "" for ISO 8601, a pattern of strftime, or None where no format fits."""
    head = column.drop_null().slice(0, _HEAD)
    if not len(head) or pc.min(pc.utf8_length(head)).as_py() < _ISO_DIGITS:
        return None
    for pattern in ("", *_PATTERNS):
        try:
            to_milliseconds(head, "iso", Place("", 0), "", None, pattern or None)
        except UserError:
            continue
        return pattern
    return None
