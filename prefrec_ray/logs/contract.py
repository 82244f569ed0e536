"""Contract of a log: the positions of its rows, and the handling of rows that break the contract.

A reader converts one table of rows at a time and raises `BadRows` for all rows that one column makes unusable. `clean`
then omits these rows and converts the rest. `Side` counts the bad rows, keeps the first of each kind, and writes
dropped rows to separate files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: Files are numbered from 0 in their order; the position of a row in the log is file * 2^40 + row.
ROWS_OF_FILE = 1 << 40
_SIDE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),  # from 1, without the header
        ("column", pa.string()),
        ("reason", pa.string()),
        ("value", pa.string()),
        ("raw", pa.string()),  # the columns that were read, as JSON
    ]
)


@dataclass(frozen=True, eq=False)
class Place:
    """Position of a table of rows in the log: its rows start at `first_row` (from 0), or are `rows` of the file."""

    file: str
    number: int  # of the file
    first_row: int = 0
    rows: np.ndarray | None = None

    def row_numbers(self, count: int) -> np.ndarray:
        """Return the row numbers in the file, int64 from 0, of the `count` rows of the table."""
        return self.first_row + np.arange(count) if self.rows is None else self.rows

    def order(self, count: int) -> np.ndarray:
        """Return the positions in the log, int64, of the `count` rows of the table."""
        return self.number * ROWS_OF_FILE + self.row_numbers(count)


#: Conversion of the rows of a table to canonical interactions. It raises `BadRows`.
Convert = Callable[[pa.Table, Place], pa.Table]


def place_of(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return file numbers, and row numbers in the files (from 1), of positions in the log."""
    return order // ROWS_OF_FILE, order % ROWS_OF_FILE + 1


class BadRows(UserError):
    """Rows of a table (ascending, at least one) that one column makes unusable; the message names the first row."""

    def __init__(self, place: Place, column: str, rows: np.ndarray, found: str, expected: str) -> None:
        row = place.first_row + rows[0] if place.rows is None else place.rows[rows[0]]
        super().__init__(_line(place.file, column, int(row) + 1, found, expected))
        self.place, self.column, self.rows, self.found, self.expected = place, column, rows, found, expected

    def __reduce__(self) -> tuple[Any, ...]:
        return UserError, (str(self),)  # other processes only get the message


@dataclass(frozen=True)
class Reason:
    """Number of rows with one kind of error, and the first row. `number` is the number of its file."""

    column: str
    expected: str
    rows: int
    number: int
    file: str
    row: int
    found: str

    def __str__(self) -> str:
        return _line(self.file, self.column, self.row, self.found, self.expected)


class Part:
    """Bad rows of one piece of a log, written as they arrive."""

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._writer: pq.ParquetWriter | None = None
        self.reasons: list[Reason] = []

    def reject(self, table: pa.Table, bad: BadRows) -> None:
        """Add the rows `bad.rows` of `table`, whose position is `bad.place`."""
        place, numbers = bad.place, bad.place.row_numbers(table.num_rows)[bad.rows] + 1
        reason = Reason(bad.column, bad.expected, len(numbers), place.number, place.file, int(numbers[0]), bad.found)
        rows = _rows(table.take(pa.array(bad.rows))) if self._uri else []
        self.add(reason, numbers, [row.get(bad.column) for row in rows], rows)

    def add(self, reason: Reason, numbers: Sequence[int] | np.ndarray, values: list[Any], raw: list[Any]) -> None:
        """Add rows of one file: their numbers (from 1), their bad values, and all columns that were read (`raw`)."""
        self.reasons = merge_reasons([*self.reasons, reason])
        if self._uri is None:
            return
        side = {
            "file": [reason.file] * len(raw),
            "row": numbers,
            "column": [reason.column] * len(raw),
            "reason": [f"expected {reason.expected}"] * len(raw),
            "value": [None if value is None else str(value) for value in values],
            "raw": [_json(row) for row in raw],
        }
        if self._writer is None:
            system, path = storage.filesystem(storage.make_room(self._uri))
            self._writer = pq.ParquetWriter(path, _SIDE_SCHEMA, filesystem=system, write_page_checksum=True)
        self._writer.write_table(pa.table(side, schema=_SIDE_SCHEMA))

    def close(self) -> None:
        """Close the file, if rows were written."""
        if self._writer is not None:
            self._writer.close()


def _json(row: Any) -> str:
    """Return the row as JSON, with NaN and infinity as text, since JSON lacks them."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(row, default=str), parse_constant=str), ensure_ascii=False)


@dataclass(frozen=True)
class Side:
    """Files for bad rows while a data set is made.

    Counts go to `folder`/work, dropped rows to `folder`/dropped/part-*.parquet. Each part has its own name, after the
    `prefix` of a source of a joined log, so that a task may run twice.
    """

    folder: str
    keep_rows: bool
    prefix: str = ""

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Collect the bad rows of one piece of the log."""
        name = self.prefix + name
        part = Part(storage.join(self.folder, "dropped", f"part-{name}.parquet") if self.keep_rows else None)
        try:
            yield part
        finally:
            part.close()
        if part.reasons:
            file = storage.make_room(storage.join(self._reasons, f"{name}.json"))
            storage.write_json(file, [asdict(reason) for reason in part.reasons])

    def reasons(self) -> list[Reason]:
        """Return all kinds of bad rows so far, ordered by their first rows."""
        files = storage.list_files(self._reasons, ".json")
        return merge_reasons(Reason(**value) for file in files for value in storage.read_json(file))

    def check(self) -> None:
        """Raise `UserError` if bad rows may not be dropped, with the first row and the number of rows."""
        reasons = [] if self.keep_rows else self.reasons()
        if reasons:
            raise UserError(summary(reasons))

    @property
    def _reasons(self) -> str:
        return storage.join(self.folder, "work", "reasons")


def part_of(side: Side | None, name: str) -> AbstractContextManager[Part | None]:
    """Return `side.part(name)`, or a context of None without `side`."""
    return side.part(name) if side else nullcontext()


def clean(table: pa.Table, place: Place, convert: Convert, part: Part | None = None) -> pa.Table:
    """Return `convert(table, place)` of the valid rows. Other rows go to `part`; without it, `UserError`."""
    while True:
        try:
            return convert(table, place)
        except BadRows as bad:
            if part is None:
                raise UserError(str(bad)) from bad
            part.reject(table, bad)
            keep = np.ones(table.num_rows, dtype=bool)
            keep[bad.rows] = False
            place = replace(place, rows=place.row_numbers(table.num_rows)[keep])
            table = table.filter(pa.array(keep))


def merge_reasons(reasons: Iterable[Reason]) -> list[Reason]:
    """Return the sums of reasons with the same column and expectation, ordered by their first rows."""
    merged: dict[tuple[str, str], Reason] = {}
    for reason in sorted(reasons, key=lambda reason: (reason.number, reason.row, reason.column)):
        key = (reason.column, reason.expected)
        merged[key] = replace(merged[key], rows=merged[key].rows + reason.rows) if key in merged else reason
    return list(merged.values())


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    columns = {name: [to_python(value) for value in table[name]] for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def to_python(value: pa.Scalar) -> Any:
    """Return a value as a Python object; bytes if it is not UTF-8, an integer for a time after the year 9999."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.cast(pa.binary()).as_py()
    except (OverflowError, ValueError):
        return value.value


def summary(reasons: list[Reason]) -> str:
    """Return one line about bad rows: the first row, and the numbers of rows of each kind."""
    total = sum(reason.rows for reason in reasons)
    if total == 1:
        return str(reasons[0])
    same_kind = f"; {reasons[0].rows:,} rows like it" if reasons[0].rows > 1 else ""
    if len(reasons) == 1:
        return f"{reasons[0]}{same_kind} (--on-error drop excludes them)"
    by_column: dict[str, int] = {}
    for reason in reasons:
        by_column[reason.column] = by_column.get(reason.column, 0) + reason.rows
    kinds = ", ".join(f"'{column}' {rows:,}" for column, rows in by_column.items())
    return f"{reasons[0]}{same_kind}; {total:,} bad rows in all (by column: {kinds}; --on-error drop excludes them)"


def _line(file: str, column: str, row: int, found: str, expected: str) -> str:
    where = f"column '{column}', " if column else ""
    return f"{file}: {where}row {row}: {found}; expected {expected}"
