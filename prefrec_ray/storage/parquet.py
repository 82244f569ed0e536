"""Parquet tables with checksums, which turn a flipped bit into an error instead of another number.

Parquet's own checksums cover pages. A sealed file (checksums.py) has a checksum of the whole file, and is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prefrec_ray import memory
from prefrec_ray.errors import UserError
from prefrec_ray.storage import checksums
from prefrec_ray.storage.files import check_readable, filesystem, read_bytes

if TYPE_CHECKING:
    import pyarrow.parquet as pq


#: Bytes in memory of a value, by its Parquet type; for a text, the bytes of its offset.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def write_parquet(table: pa.Table, uri: str, **options: Any) -> None:
    """Write the file `uri`; `options` are passed on to `pyarrow.parquet.write_table`."""
    import pyarrow.parquet as pq  # here: settings import this package, and should not load pyarrow.parquet

    system, path = filesystem(uri)
    pq.write_table(table, path, filesystem=system, write_page_checksum=True, **options)


def read_parquet(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table at `uri`, or some columns. Raises `UserError` if they are missing, damaged or too large."""
    import pyarrow.parquet as pq

    read_footer(uri, columns)
    system, path = filesystem(uri)
    wanted = None if columns is None else list(columns)
    with _reading(uri, "damaged, or with other columns"):
        return pq.read_table(path, columns=wanted, filesystem=system, page_checksum_verification=True)


def read_footer(uri: str, columns: Sequence[str] | None = None) -> pq.FileMetaData:
    """Return the schema and numbers of rows of a Parquet file. Raises `UserError` as `read_parquet` does."""
    import pyarrow.parquet as pq

    check_readable(uri)
    system, path = filesystem(uri)
    with _reading(uri, "damaged: not readable as Parquet"):
        footer = pq.read_metadata(path, filesystem=system)
    size, free = _unpacked(footer, columns), memory.available()
    if size > free:
        raise UserError(
            f"{uri}: found {footer.num_rows:,} rows, which take {memory.text(size)}; expected at most"
            f" {memory.text(free)}, the free memory of this machine"
        )
    return footer


def _unpacked(footer: pq.FileMetaData, columns: Sequence[str] | None) -> int:
    """Return a lower bound of a table's bytes in memory: a few bytes of a file can represent any number of rows."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    parts = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(
        part.num_values * _WIDTHS.get(part.physical_type, 4)
        for part in parts
        if columns is None or part.path_in_schema.partition(".")[0] in columns
    )


def seal_parquet(table: pa.Table, **options: Any) -> bytes:
    """Return the bytes of a sealed file with `table`; `options` as for `write_parquet`."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, **options) as writer:
        writer.write_table(table, row_group_size=1 << 16)
        writer.add_key_value_metadata({"prefrec": checksums.BLANK})
    return checksums.fill(sink.getvalue().to_pybytes())


def open_sealed(uri: str) -> pq.ParquetFile:
    """Open a file by `seal_parquet`. Raises `UserError` if it is missing or damaged."""
    import pyarrow.parquet as pq

    content = check_seal(uri)
    with _reading(uri, "damaged"):
        return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)


def check_seal(uri: str) -> bytes:
    """Return the bytes of the sealed file `uri`. Raises `UserError` if it is missing, or its seal does not match."""
    content = read_bytes(uri)
    if not checksums.intact(content):
        raise UserError(f"{uri}: damaged: its checksum differs; expected the file as it was written")
    return content


def read_sealed(uri: str) -> pa.Table:
    """Return the table of a file that `open_sealed` can open. Raises `UserError` if it is missing or damaged."""
    parquet = open_sealed(uri)
    with _reading(uri, "damaged"):
        return parquet.read()


@contextmanager
def _reading(uri: str, problem: str) -> Iterator[None]:
    """Raise `UserError` for an error of pyarrow."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{uri}: {problem} ({str(error).splitlines()[0]})") from error
