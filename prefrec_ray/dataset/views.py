"""Views of a prepared data set as Ray Data sets, for own analyses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import ray.data

from prefrec_ray.dataset.tables import read_table, stored
from prefrec_ray.errors import UserError


def view(files: list[str], folder: str, columns: list[str] | None = None) -> ray.data.Dataset:
    """Return the rows of `files`, one block per file. Columns of states and actions are tensors [n, d].

    Raises `UserError` if there are no files.
    """
    if not files:
        raise UserError(f"{folder}: no files; expected those of a prepared data set")
    return ray.data.from_items(files, override_num_blocks=len(files)).map_batches(
        _read, batch_size=None, fn_kwargs={"columns": columns}
    )


def _read(batch: dict[str, np.ndarray], columns: list[str] | None) -> dict[str, np.ndarray]:
    (file,) = batch["item"]
    table = read_table(str(file), columns)
    return {name: _array(table[name]) for name in table.column_names}


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return stored(column)
    return column.to_numpy(zero_copy_only=False)
