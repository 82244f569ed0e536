"""A missing or damaged table on disk is reported in one line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prefrec_ray import memory
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


@pytest.mark.parametrize("of", ["embeddings", "footer"])
def test_a_flipped_bit_is_found(tmp_path: Path, of: str) -> None:
    """Before the file reaches Arrow, which some damaged footers end by a signal."""
    embeddings = np.arange(64, dtype=np.float32).reshape(32, 2) / 64
    file = tmp_path / "items.parquet"
    ItemTable(np.arange(32), embeddings).save(str(file))
    content = bytearray(file.read_bytes())
    place = content.index(embeddings.ravel()[20:24].tobytes()) if of == "embeddings" else len(content) - 200
    content[place + 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"items\.parquet: damaged: its checksum differs"):
        ItemTable.load(str(file))


def test_more_rows_than_fit_into_memory_are_refused_by_the_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal values take a few bytes for any number of rows: a million rows of 8 and 1 bytes, in 14 KB."""
    file = tmp_path / "t.parquet"
    write_parquet(pa.table({"x": np.zeros(10**6, np.int64), "y": np.zeros(10**6, bool)}), str(file))
    assert file.stat().st_size < 20_000
    monkeypatch.setattr(memory, "available", lambda: 8_500_000)
    with pytest.raises(
        UserError, match=r"found 1,000,000 rows, which take 9\.0 MB; expected at most 8\.5 MB, the free"
    ):
        read_parquet(str(file))
    assert read_parquet(str(file), ["x"]).num_rows == 10**6


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_500, "1.5 KB"),
        (25_300_000_000, "25.3 GB"),
        (4e18, "4.0 EB"),
        (10**400, "1,000,000.0 EB"),
    ],
)
def test_numbers_of_bytes_for_people(size: float, text: str) -> None:
    assert memory.text(size) == text
