"""Columns of a prepared data set as NumPy arrays and as Ray Data sets, for research code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from prefrec_ray.dataset.tables import read_table, stored, tensor
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    import ray.data


def view(files: list[str], folder: str, columns: list[str] | None = None) -> ray.data.Dataset:
    """Return the rows of `files`, one block per file; columns of states and actions are tensors [n, d].

    Raises `UserError` for an empty list of files.
    """
    import ray.data  # on demand: it takes seconds, and `arrays` does not need it

    _check(files, folder)
    return ray.data.from_items(files, override_num_blocks=len(files)).map_batches(
        _read, batch_size=None, fn_kwargs={"columns": columns}
    )


def arrays(files: list[str], folder: str, columns: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return the columns of all `files`, in their order: states and actions float32 [n, d], others [n].

    Raises `UserError` for an empty list of files.
    """
    _check(files, folder)
    table = pa.concat_tables([read_table(file, columns) for file in files])
    return {name: _held(table[name]) for name in table.column_names}


def _check(files: list[str], folder: str) -> None:
    if not files:
        raise UserError(f"{folder}: found no files; expected the files of a prepared data set")


def _held(column: pa.ChunkedArray) -> np.ndarray:
    """Return a writable array, as torch requires it."""
    if pa.types.is_fixed_size_list(column.type):
        return np.require(tensor(column), requirements="W")
    return np.require(column.to_numpy(zero_copy_only=False), requirements="W")


def _read(batch: dict[str, np.ndarray], columns: list[str] | None) -> dict[str, np.ndarray]:
    (file,) = batch["item"]
    table = read_table(str(file), columns)
    return {name: _array(table[name]) for name in table.column_names}


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return stored(column)
    return column.to_numpy(zero_copy_only=False)
