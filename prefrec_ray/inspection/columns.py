"""Columns of a log: names as words; type, empty cells, values and examples from a sample; units of times."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs.contract import Part, Place, clean, to_python
from prefrec_ray.logs.fragments import batches, list_fragments
from prefrec_ray.logs.listing import is_csv
from prefrec_ray.logs.schemas import DELIMITERS, PLAIN, CsvFormat, check_each_once, schema
from prefrec_ray.logs.values import PER_SECOND, is_text, padded, to_milliseconds

#: Rows of the sample, and batches that are read for it from one fragment.
_ROWS, _BATCHES = 200_000, 4
_EXAMPLES = 3
#: 1995 to 2040, in s. No number is a date in this range in two units.
_FIRST, _LAST = 788_918_400, 2_208_988_800
_ENOUGH = 0.99  # share of the times that must fit, because good logs contain a few bad cells
_DIGITS = 8  # of a date, at least
_NUMBER = r"^\d+(\.\d*)?$"
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_PATTERNS = tuple(f"{date}{time}" for time in (" %H:%M:%S", " %H:%M:%S UTC", " %H:%M", "") for date in _DATES)
#: Words in platforms' names of these columns, likelier first.
USER = (
    *("user", "member", "visitor", "customer", "household", "client", "subscriber", "viewer", "listener", "reader"),
    *("player", "account", "person", "profile", "consumer", "shopper", "device", "cookie", "uid", "who"),
)
ITEM = (
    *("item", "video", "movie", "track", "song", "product", "article", "news", "photo", "post", "clip", "content"),
    *("episode", "book", "game", "sku", "stock", "asset", "recipe", "ad", "creative", "stream", "show", "page", "iid"),
    "artist",
)
SESSION = ("session", "basket", "visit", "sid", "invoice", "receipt", "transaction")
#: Words of ids of any kind.
ID = ("id", "ids", "key", "code", "hash", "uuid", "guid", "index", "idx")


@dataclass(frozen=True)
class Column:
    """One column, described by a sample."""

    name: str
    kind: pa.DataType  # for CSV the narrowest of integer, number, boolean and text that fits the sample
    empty: float  # share
    distinct: int  # in the sample
    low: object  # None if all cells are empty, or values have no order
    high: object
    examples: tuple[object, ...]  # the most frequent values

    def has(self, vocabulary: Collection[str]) -> bool:
        """Return True if the name has a word of `vocabulary`."""
        return not set(vocabulary).isdisjoint(words(self.name))

    @property
    def is_number(self) -> bool:
        """Return True for integers, floating-point numbers and booleans."""
        return any(check(self.kind) for check in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))


def words(name: str) -> list[str]:
    """Split a column's name into words in lower case: `visitorId`, `visitor_id` and `visitorid` are visitor and id."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    split: list[str] = []
    for part in (part.lower() for part in parts):
        stem = part.removesuffix("id")
        split += [stem, "id"] if stem != part and stem in (*USER, *ITEM, *SESSION) else [part]
    return split


def likeness(name: str, vocabulary: Sequence[str]) -> tuple[int, int] | None:
    """Return the order of names that have a word of `vocabulary`, the likelier first; None for other names.

    The number of words that are neither of `vocabulary` nor of ids comes first: 0 for `user` and `visitorId`, 1 for
    `user_age`.
    """
    of_name = words(name)
    places = [vocabulary.index(word) for word in of_name if word in vocabulary]
    extra = [word for word in of_name if word not in vocabulary and word not in ID]
    return (len(extra), min(places)) if places else None


def is_key(name: str, vocabulary: Sequence[str]) -> bool:
    """Return True for `user` and `visitorId`, but not for `user_age`."""
    like = likeness(name, vocabulary)
    return like is not None and like[0] == 0


def csv_format(file: str, names: Sequence[str] = ()) -> CsvFormat:
    """Return the format of a CSV file, with the delimiter that splits its first line into most columns.

    A file with as many columns as `names` has these instead of a header.
    """
    if not is_csv(file):
        return PLAIN
    form = max((PLAIN, *map(CsvFormat, DELIMITERS)), key=lambda form: len(schema(file, form)))
    return replace(form, names=names) if names and len(names) == len(schema(file, form)) else form


def sample(files: Sequence[str], form: CsvFormat) -> pa.Table:
    """Return the first rows of the first file with rows, without nested columns and dictionaries.

    Raises `UserError` without rows, and for two columns of one name.
    """
    columns = [field.name for field in schema(files[0], form) if not pa.types.is_nested(field.type)]
    check_each_once(files[0], columns, columns)
    parts: list[pa.Table] = []
    fragments, file = list_fragments(files, form)[0], ""
    while fragments and (not parts or (fragments[0]["file"] == file and sum(map(len, parts)) < _ROWS)):
        file, group = fragments[0]["file"], fragments.pop(0)["group"]
        parts += [part for part, _ in islice(batches(Place(file, 0), columns, group, form), _BATCHES)]
    empty = pa.table({name: pa.array([], pa.string()) for name in columns})
    table = pa.concat_tables(parts).slice(0, _ROWS) if parts else empty
    table = pa.table({name: _plain(table[name]) for name in columns})
    if is_csv(files[0]):
        table = pa.table(
            {
                name: narrowest(table[name], any(is_key(name, role) for role in (USER, ITEM, SESSION)))
                for name in columns
            }
        )
    return table


def narrowest(column: pa.ChunkedArray, called_id: bool = False) -> pa.ChunkedArray:
    """Return text as integers, numbers or booleans if all values are; 007 is text, and so is 1.0 as an id."""
    if not is_text(column.type) or padded(column).any():
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        with suppress(pa.ArrowInvalid):
            narrow = column.cast(kind)
            is_text_id = called_id and kind == pa.float64() and pc.all(pc.equal(narrow, pc.floor(narrow))).as_py()
            return column if is_text_id else narrow
    return column


def profile(table: pa.Table) -> list[Column]:
    """Describe each column of a sample."""
    return [_profile(name, table[name]) for name in table.column_names]


def _profile(name: str, column: pa.ChunkedArray) -> Column:
    if pa.types.is_floating(column.type):  # `prepare` treats NaN as an empty cell
        column = pc.if_else(pc.is_nan(column.cast(pa.float32())), pa.scalar(None, column.type), column)
    known = column.drop_null()
    if known.type == pa.float16():  # Arrow does not order them
        known = known.cast(pa.float32())
    counts = pc.value_counts(known)
    each = counts.field("counts").to_numpy()
    values = counts.field("values")
    low = high = None
    with suppress(pa.ArrowNotImplementedError):
        ends = pc.min_max(known)
        low, high = to_python(ends["min"]), to_python(ends["max"])
    first = np.argsort(-each, kind="stable")[:_EXAMPLES]
    return Column(
        name=name,
        kind=column.type,
        empty=column.null_count / max(1, len(column)),
        distinct=len(each),
        low=low,
        high=high,
        examples=tuple(to_python(values[int(i)]) for i in first),
    )


def time_unit(column: pa.ChunkedArray) -> str | None:
    """Return s, ms, us or ns for numbers, iso for text and timestamps; None for a column without times."""
    known = column.drop_null()
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
    texts = column.drop_null()
    dates = pc.sum(pc.greater_equal(pc.utf8_length(texts), _DIGITS)).as_py()
    if not len(texts) or dates < _ENOUGH * len(texts):
        return []
    found = []
    for pattern in ("", *_PATTERNS):

        def convert(table: pa.Table, place: Place, pattern: str | None = pattern or None) -> pa.Table:
            return pa.table({"ms": to_milliseconds(table["text"], None, place, "text", pattern=pattern)})

        times = clean(pa.table({"text": texts}), Place("", 0), convert, Part(None))["ms"].to_numpy()
        if len(times) >= _ENOUGH * len(texts):
            if not pattern:
                return [""]
            found.append((-len(times), np.ptp(times), pattern))
    return [pattern for count, _, pattern in sorted(found) if count == min(found)[0]]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
