"""Tables of a prepared data set as files, and their columns as arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.storage.parquet import read_parquet, write_parquet


def read_table(file: str, columns: list[str] | None = None) -> pa.Table:
    """Return a file as a table. Raises `UserError` if it is missing or damaged, or has a number that is not finite."""
    table = read_parquet(file, columns)
    for name in table.column_names:
        if pa.types.is_fixed_size_list(table.schema.field(name).type):
            _check_finite(table[name], name, file)
    return table


def _check_finite(column: pa.ChunkedArray, name: str, file: str) -> None:
    finite = np.isfinite(stored(column))
    if not finite.all():
        row = int((~finite.all(axis=1)).argmax())
        raise UserError(
            f"{file}: column '{name}', row {row + 1}: found a number that is not finite; expected a finite one"
        )


def write_table(table: pa.Table, uri: str) -> None:
    """Write an uncompressed Parquet file, since tensors gain nothing from dictionaries or statistics."""
    write_parquet(table, uri, compression="none", use_dictionary=False, write_statistics=False)


def tensor_array(values: np.ndarray, kind: str = "float32") -> pa.FixedSizeListArray:
    """Return [n, d] as a column of `kind`, without nulls, which makes Parquet several times faster to read."""
    flat = pa.array(np.ascontiguousarray(values, kind).ravel())
    return pa.FixedSizeListArray.from_arrays(
        flat, type=pa.list_(pa.field("element", flat.type, nullable=False), values.shape[1])
    )


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as float64 [n], with NaN for null."""
    return column.cast(pa.float64()).fill_null(np.nan).to_numpy()


def tensor(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of fixed_size_list as float32 [n, d]; a view if it is stored as float32 in one chunk."""
    return stored(column).astype(np.float32, copy=False)


def stored(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of fixed_size_list in its stored type (float32 or float16), [n, d]; a view of a single chunk."""
    if isinstance(column, pa.ChunkedArray):
        # A single chunk is used directly, since `combine_chunks` would copy it.
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
