"""What the columns of files are called and hold, before their rows are read: schemas, and how CSV is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.listing import is_csv, partition_values
from prefrec_ray.logs.values import padded

#: Of CSV, which is read block by block; the first one tells the types.
BLOCK_BYTES = 1 << 20
#: Footers and first blocks are small: waiting for storage is what takes time.
THREADS = 16


@dataclass(frozen=True)
class CsvFormat:
    """How CSV files are written: `names` are the columns of files without a header."""

    delimiter: str | None = None  # None: a tab in .tsv, else a comma
    names: tuple[str, ...] | None = None

    def row(self, line: csv.InvalidRow) -> int:
        """The row, from 0, that a line of the file is."""
        return line.number - (2 if self.names is None else 1)

    def open(self, stream: Any, file: str, handler: Any = None, columns: list[str] | None = None) -> Any:
        """A reader of `stream`; with `columns` of these alone, as text."""
        delimiter = self.delimiter or ("\t" if ".tsv" in file.rpartition("/")[2] else ",")
        names = None if self.names is None else list(self.names)
        convert = csv.ConvertOptions()
        if columns is not None:
            types = dict.fromkeys(columns, pa.string())
            convert = csv.ConvertOptions(
                include_columns=columns, column_types=types, null_values=[""], strings_can_be_null=True
            )
        return csv.open_csv(
            stream,
            csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handler),
            convert,
        )


#: With a header; what parts values is told by the file's name.
PLAIN = CsvFormat()


def schema(file: str, form: CsvFormat = PLAIN) -> pa.Schema:
    """Names and types of a file's columns, those of its folders last; of CSV as its first block shows them."""
    found = own_schema(file, form)
    return pa.schema([*found, *_partition_fields(file, set(found.names))])


def own_schema(file: str, form: CsvFormat) -> pa.Schema:
    """`schema` without what the folders say."""
    system, path = storage.filesystem(file)
    with readable(file):
        if not is_csv(file):
            return pq.read_schema(path, filesystem=system)
        with system.open_input_stream(path) as stream, form.open(stream, file, _ignore) as reader:
            return reader.schema


def _partition_fields(file: str, own: set[str]) -> list[pa.Field]:
    """What the folders say and the file does not."""
    fields = []
    for name, value in partition_values(file).items():
        if name not in own:
            whole = value is not None and re.fullmatch(r"0|-?[1-9]\d{0,17}", value)
            fields.append(pa.field(name, pa.null() if value is None else pa.int64() if whole else pa.string()))
    return fields


def schemas(files: list[str], form: CsvFormat = PLAIN) -> list[pa.Schema]:
    """`schema` of many files."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda file: schema(file, form), files))


def padded_columns(file: str, columns: list[str], form: CsvFormat = PLAIN) -> set[str]:
    """Which of some columns of a CSV file show, in its first block, integers with leading zeros: these are names."""
    system, path = storage.filesystem(file)
    inside = [name for name in columns if name not in partition_values(file)]
    with readable(file), system.open_input_stream(path) as stream, form.open(stream, file, _ignore, inside) as reader:
        first = next(iter(reader), None)
    return set() if first is None else {name for name in inside if padded(first[name]).any()}


def _ignore(line: csv.InvalidRow) -> str:
    return "skip"


@contextmanager
def readable(file: str) -> Iterator[None]:
    """Turns what pyarrow says of a file that it cannot read into a `UserError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        what = "CSV" if is_csv(file) else "Parquet"
        raise UserError(f"{file}: not readable as {what} ({str(error).splitlines()[0]})") from error
