"""Parquet tables with checksums: a bit that flips on a disk, or on the way, is an error and not another number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import filesystem


def write_parquet(table: pa.Table, uri: str, **options: Any) -> None:
    """Writes the file `uri`; `options` are those of `pyarrow.parquet.write_table`."""
    import pyarrow.parquet as pq  # here: settings lie in packages that read tables, and need none

    system, path = filesystem(uri)
    pq.write_table(table, path, filesystem=system, write_page_checksum=True, **options)


def read_parquet(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table at `uri`, or some of its columns. Raises `UserError` where it is missing, damaged or lacks a column."""
    import pyarrow.parquet as pq

    system, path = filesystem(uri)
    wanted = None if columns is None else list(columns)
    try:
        return pq.read_table(path, columns=wanted, filesystem=system, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{uri}: damaged, or of other columns ({str(error).splitlines()[0]})") from error
