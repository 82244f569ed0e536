"""Names and types of the columns of files before rows are read, and the format of CSV files."""

from __future__ import annotations

import atexit
import csv as python_csv
import io
import time
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakSet, ref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.listing import is_csv, list_inputs, readable
from prefrec_ray.logs.side_tables import ItemsTable, UsersTable
from prefrec_ray.logs.sources import ColumnsSource, FilesSource
from prefrec_ray.logs.values import is_list, is_number, padded, plain_schema, visible

#: CSV is read block by block; types come from the first block.
BLOCK_BYTES = 1 << 20
#: Blocks to read for the first one: it ends with the last whole line, for which Arrow waits for the next block.
HEAD = 2
#: Threads that read footers and first blocks. These are small: most of the time is spent waiting for storage.
THREADS = 16
#: First bytes of files that are not CSV -> the format, and a name or reader for it.
_NOT_CSV = {
    b"PAR1": "Parquet by its content; expected a name that ends in .parquet",
    b"\x1f\x8b": "gzip by its content; expected a name that ends in .csv.gz",
    b'{"': "JSON by its content; expected Parquet or CSV, or kind: ray_data, read: read_json",
}
_NEWLINE = np.frombuffer(b"\n", np.uint8)


class Lines:
    """A CSV file that Arrow reads ahead in a thread, and the number of lines that were read, without empty ones.

    Arrow's thread may read while the file is closed. The next file that any thread opens then has the same descriptor,
    and would lose its first bytes, its header among them. The lock prevents this.
    """

    closed = False

    def __init__(self, stream: Any, blocks: int | None = None) -> None:
        self._stream: Any = stream
        self._left = blocks  # None: all
        self._lock = Lock()
        self.reader: Any = ()
        self._blocks: list[ref[np.ndarray]] = []
        self._last, self.count = _NEWLINE, 0

    def open(self, *options: Any) -> None:
        """Create Arrow's `reader`, which calls `read` in a thread."""
        _OPEN.add(self)
        self.reader = csv.open_csv(self, *options)

    def read(self, size: int) -> np.ndarray:
        """Return the next block, uint8; an empty one at the end, and after `end`."""
        with self._lock:
            block = np.frombuffer(b"" if self._stream is None or self._left == 0 else self._stream.read(size), np.uint8)
        if self._left is not None:
            self._left -= 1
        ends = np.concatenate([self._last, block if len(block) else _NEWLINE]) == _NEWLINE
        self.count += int(np.count_nonzero(ends[1:] & ~ends[:-1]))
        self._last = block[-1:].copy() if len(block) else _NEWLINE
        self._blocks = [*(kept for kept in self._blocks if kept() is not None), ref(block)]
        return block

    def end(self) -> None:
        """End the file, and wait for Arrow's threads, which would abort the process at the exit of Python."""
        with self._lock:
            self._stream = None
        reader, self.reader = self.reader, ()
        with suppress(pa.ArrowInvalid):
            for _ in reader:
                pass
        latest = time.monotonic() + 1
        # The reader itself keeps one block.
        while sum(block() is not None for block in self._blocks) > 1 and time.monotonic() < latest:
            time.sleep(0.001)


_OPEN: WeakSet[Lines] = WeakSet()


@atexit.register
def _end_all() -> None:
    for lines in list(_OPEN):
        lines.end()


@dataclass(frozen=True)
class CsvFormat:
    """Format of CSV files; `names` are the columns of files without a header."""

    delimiter: str | None = None  # None: a tab in .tsv, else a comma
    names: Sequence[str] | None = None

    def row(self, line: csv.InvalidRow) -> int:
        """Return the row number, from 0, of a line of the file."""
        return line.number - (2 if self.names is None else 1)

    def delimiter_of(self, file: str) -> str:
        """Return the delimiter of a file."""
        return self.delimiter or ("\t" if ".tsv" in file.rpartition("/")[2] else ",")

    def check_quotes(self, file: str) -> None:
        """Raise `UserError` if a value of several lines has no closing quote, or text after it.

        Arrow would read the rows after the open quote as a part of this value.
        """
        system, path = storage.filesystem(file)
        limit = python_csv.field_size_limit(2 * BLOCK_BYTES)  # Arrow reads no longer ones
        try:
            with readable(file), system.open_input_stream(path) as stream:
                lines = io.TextIOWrapper(stream, "latin-1", newline="")
                self._check_closed(file, python_csv.reader(lines, delimiter=self.delimiter_of(file), strict=True))
        finally:
            python_csv.field_size_limit(limit)  # of all readers in this process

    def _check_closed(self, file: str, rows: Any) -> None:
        number = 0 if self.names else -1
        row: list[str] | None = [""]
        while row is not None:
            first = rows.line_num + 1
            try:
                row = next(rows, None)
            except python_csv.Error as error:
                if rows.line_num > first:
                    found = f"found a quote that opens in line {first}"
                    raise UserError(f"{file}: row {number + 1}: {found}; expected its closing quote") from error
            number += row != []  # an empty line is not a row

    @contextmanager
    def open(
        self, file: str, skipped: list[Any], columns: list[str] | None = None, blocks: int | None = None
    ) -> Iterator[Lines]:
        """Open a file, or its `columns` as text, for reading in blocks; lines of other lengths go to `skipped`.

        Text may be invalid UTF-8. `blocks`: the first ones, after which the file seems to end. Raises `UserError` if
        the header lacks one of `columns`, which the caller found in it before.
        """

        def skip(line: csv.InvalidRow) -> str:
            skipped.append(line)
            return "skip"

        convert = csv.ConvertOptions()
        if columns is not None:
            convert = csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                check_utf8=False,  # logs/values.py refuses single rows
            )
        read = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self.names)
        parse = csv.ParseOptions(delimiter=self.delimiter_of(file), newlines_in_values=True, invalid_row_handler=skip)
        system, path = storage.filesystem(file)
        with readable(file), system.open_input_stream(path) as stream:
            lines = Lines(stream, blocks)
            try:
                lines.open(read, parse, convert)
            except pa.ArrowKeyError as error:
                expected = f"the columns {', '.join(columns or [])}, as before (did the file change?)"
                raise UserError(f"{file}: found another header; expected {expected}") from error
            try:
                yield lines
            finally:
                lines.end()


#: A header, and the delimiter by the file's suffix.
PLAIN = CsvFormat()
#: Delimiters that are tried.
DELIMITERS = (",", ";", "\t", "|")


def schema(file: str, form: CsvFormat = PLAIN) -> pa.Schema:
    """Return names and types of a file's columns. Types of CSV come from the first block."""
    system, path = storage.filesystem(file)
    with readable(file):
        if not is_csv(file):
            return plain_schema(pq.read_schema(path, filesystem=system))
        with system.open_input_stream(path) as stream:
            _check_text(stream.read(BLOCK_BYTES), file)
    with form.open(file, [], blocks=HEAD) as lines:
        return lines.reader.schema


def _check_text(head: bytes, file: str) -> None:
    """Raise `UserError` if the first bytes of a CSV file are not text. (Arrow reports such files by a traceback.)"""
    for first, what in _NOT_CSV.items():
        if head.startswith(first):
            raise UserError(f"{file}: {what}")
    try:
        getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: line {line} is not UTF-8; expected text in UTF-8") from error


def schemas(files: list[str], form: CsvFormat = PLAIN) -> list[pa.Schema]:
    """Return `schema` of many files."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda file: schema(file, form), files))


def padded_columns(file: str, columns: list[str], form: CsvFormat = PLAIN) -> set[str]:
    """Return the `columns` with integers with leading zeros in the first block of a CSV file: such ids are text."""
    with form.open(file, [], columns, HEAD) as lines:
        first = next(iter(lines.reader), None)
    return set() if first is None else {name for name in columns if padded(first[name]).any()}


def check_present(file: str, columns: Iterable[str], names: Sequence[str]) -> None:
    """Raise `UserError` if one of `columns` is not in `names`, the columns of `file`."""
    found = ", ".join(map(visible, names)) or "none"
    if len(names) == 1:
        found += next((f" (delimiter: '{visible(sign)}'?)" for sign in DELIMITERS if sign in names[0]), "")
    for column in columns:
        if column not in names:
            raise UserError(f"{file}: column '{column}' is missing; found {found}")


def check_each_once(file: str, columns: Iterable[str], names: Sequence[str]) -> None:
    """Raise `UserError` if one of `columns` is not in `names`, the columns of `file`, or occurs twice."""
    check_present(file, columns, names)
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f"{file}: column '{column}' occurs {names.count(column)} times; expected once")


def check_tables(source: ColumnsSource) -> None:
    """Raise `UserError` if a table of users or items is missing, lacks a column, or cannot contain the embeddings."""
    form = CsvFormat(source.delimiter if isinstance(source, FilesSource) else None)
    if source.users:
        check_columns(source.users, form)
    if source.items:
        file, kinds, _ = check_columns(source.items, form)
        if isinstance(source.items.embedding, str):
            check_embedding(file, source.items.embedding, kinds.field(source.items.embedding).type)


def check_columns(table: UsersTable | ItemsTable, form: CsvFormat) -> tuple[str, pa.Schema, CsvFormat]:
    """Return the only file of a table, its schema and its format. Raises `UserError` if it lacks a column.

    The format is `form`, or for a CSV file without the columns under `form` another of the `DELIMITERS`.
    """
    files = list_inputs(table.path)
    if len(files) > 1:
        raise UserError(f"{table.path}: found {len(files)} files; expected one table")
    (file,), found, wanted = files, schema(files[0], form), set(table.columns)
    if is_csv(file) and not wanted <= set(found.names):
        others = ((schema(file, other), other) for other in map(CsvFormat, DELIMITERS))
        found, form = next((other for other in others if wanted <= set(other[0].names)), (found, form))
    check_present(file, table.columns, found.names)
    return file, found, form


def check_embedding(file: str, name: str, kind: pa.DataType) -> None:
    """Raise `UserError` for a column of a type that cannot contain embeddings."""
    if not (is_list(kind) and is_number(kind.value_type)):
        raise UserError(
            f"{file}: column '{name}' is {kind}; expected lists of numbers, or name several columns of numbers; "
            f"categories belong to features: [{name}]"
        )
