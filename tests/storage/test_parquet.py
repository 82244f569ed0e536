"""A table on disk is whole: what is missing or damaged is one line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.storage.parquet import read_parquet, write_parquet


def test_back_and_forth(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "y": ["a", "b"]})
    file = str(tmp_path / "t.parquet")
    write_parquet(table, file)
    assert read_parquet(file) == table
    assert read_parquet(file, ["y"]) == table.select(["y"])
    for uri, columns, message in ((f"{file}s", None, "no such file"), (file, ["z"], None)):
        if message:
            with pytest.raises(UserError, match=message):
                read_parquet(uri, columns)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    embeddings = np.arange(64, dtype=np.float32).reshape(32, 2) / 64
    file = tmp_path / "items.parquet"
    ItemTable(np.arange(32), embeddings).save(str(file))
    content = bytearray(file.read_bytes())
    place = content.index(embeddings.ravel()[20:24].tobytes())
    content[place + 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"items\.parquet: damaged"):
        ItemTable.load(str(file))
