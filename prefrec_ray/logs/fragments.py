"""Files in pieces: row groups of Parquet and whole CSV files, read batch by batch inside Ray Data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from pyarrow import csv

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.canonical import Place

_PARQUET, _CSV = (".parquet",), (".csv", ".csv.gz")
_BATCH = 1 << 16
_MAX_BLOCKS = 256
_BLOCK_BYTES = 1 << 20
_ONE_THREAD = csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)


def list_inputs(path: str) -> list[str]:
    """The Parquet or CSV files at `path` (a file or a folder), by name. Raises `UserError` where there are none."""
    uri = storage.absolute(path)
    if not storage.exists(uri):
        raise UserError(f"{path}: no such file or folder")
    if uri.endswith(_PARQUET + _CSV):
        return [uri]
    found = [file for file in storage.list_files(uri) if file.endswith(_PARQUET + _CSV)]
    if not found:
        raise UserError(f"{path}: no Parquet or CSV files (.parquet, .csv, .csv.gz)")
    return found


def schema(file: str) -> pa.Schema:
    """Names and types of a file's columns; of CSV as its first block shows them."""
    system, path = storage.filesystem(file)
    with _readable(file):
        if not is_csv(file):
            return pq.read_schema(path, filesystem=system)
        with system.open_input_stream(path) as stream, csv.open_csv(stream, _ONE_THREAD) as reader:
            return reader.schema


def read_table(file: str, columns: list[str]) -> pa.Table:
    """Some columns of a whole file, for tables of users or items."""
    return pa.concat_tables(list(batches(file, columns, None)))


def read(files: list[str], columns: list[str], convert: Callable[[pa.Table, Place], pa.Table]) -> tuple[Any, int]:
    """The rows of all files as a Ray data set, each batch through `convert`, and how many rows there are (or so)."""
    fragments, rows = [], 0
    for number, file in enumerate(files):
        groups = [(-1, 0)]
        if is_csv(file):
            rows += _guess_rows(file)
        else:
            sizes = _row_groups(file)
            rows += sum(sizes)
            groups = [(group, sum(sizes[:group])) for group in range(len(sizes))]
        fragments += [{"file": file, "number": number, "group": g, "first": first} for g, first in groups]
    if not rows:
        more = f" (and {len(files) - 1} more files)" if len(files) > 1 else ""
        raise UserError(f"{files[0]}{more}: the log is empty; expected interactions")
    blocks = min(len(fragments), _MAX_BLOCKS)
    dataset = ray.data.from_items(fragments, override_num_blocks=blocks).map_batches(
        _read_fragments,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"columns": columns, "convert": convert},
    )
    return dataset, rows


def is_csv(file: str) -> bool:
    """Whether a file is CSV, by its name."""
    return file.endswith(_CSV)


def _read_fragments(
    fragments: pa.Table, columns: list[str], convert: Callable[[pa.Table, Place], pa.Table]
) -> Iterator[pa.Table]:
    for fragment in fragments.to_pylist():
        row = fragment["first"]
        for table in batches(fragment["file"], columns, fragment["group"]):
            yield convert(table, Place(fragment["file"], fragment["number"], row))
            row += table.num_rows


def batches(file: str, columns: list[str], group: int | None) -> Iterator[pa.Table]:
    """Tables of at most some ten thousand rows; the columns of CSV are text, as they are written."""
    system, path = storage.filesystem(file)
    with _readable(file):
        if not is_csv(file):
            with system.open_input_file(path) as stream:
                parquet = pq.ParquetFile(stream)
                groups = list(range(parquet.num_row_groups)) if group is None else [group]
                for batch in parquet.iter_batches(_BATCH, row_groups=groups, columns=columns, use_threads=False):
                    yield pa.Table.from_batches([batch])
                if not groups:
                    yield parquet.schema_arrow.empty_table().select(columns)
            return
        options = csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        with (
            system.open_input_stream(path) as stream,
            csv.open_csv(stream, _ONE_THREAD, convert_options=options) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])


def _row_groups(file: str) -> list[int]:
    system, path = storage.filesystem(file)
    with _readable(file):
        metadata = pq.read_metadata(path, filesystem=system)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _guess_rows(file: str) -> int:
    """Rows of a CSV file, by those of its first block; 0 for a header alone."""
    system, path = storage.filesystem(file)
    size = system.get_file_info(path).size
    with (
        _readable(file),
        system.open_input_stream(path) as stream,
        csv.open_csv(stream, _ONE_THREAD) as reader,
    ):
        rows = next((batch.num_rows for batch in reader), 0)
    return rows * max(1, size // _BLOCK_BYTES)


@contextmanager
def _readable(file: str) -> Iterator[None]:
    """Turns what pyarrow says of a file that it cannot read into a `UserError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        what = "CSV" if is_csv(file) else "Parquet"
        raise UserError(f"{file}: not readable as {what} ({str(error).splitlines()[0]})") from error
