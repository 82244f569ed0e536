"""The partition of a log by users: every row once, complete users in a bucket, for any batches."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data

from prefrec_ray.dataset.prepare import users
from prefrec_ray.dataset.prepare.users import partition_by_user, read_pieces

NAMES = ["user_id", "item_id", "timestamp", "order"]


def make_rows(count: int, text: bool) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({name: rng.integers(0, 40, count) for name in NAMES}).assign(order=np.arange(count))
    return rows.assign(user_id="usér " + rows.user_id.astype(str)) if text else rows


def parted(rows: pd.DataFrame, ends: Sequence[int], buckets: int, folder: Path) -> dict[int, pd.DataFrame]:
    """The rows of each bucket, of a log of blocks that end at `ends` and with the log."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    tables = [table[begin:end] for begin, end in pairwise([0, *ends, len(rows)])]
    seen: list[tuple[str, int, int]] = []
    pieces = partition_by_user(ray.data.from_arrow(tables), 0, buckets, str(folder), lambda *step: seen.append(step))
    assert list(pieces) == sorted(pieces)
    assert seen[-1] == ("read the log: rows", len(rows), len(rows))
    return {bucket: read_pieces(mine, str(folder)).to_pandas() for bucket, mine in pieces.items()}


@pytest.mark.parametrize("text", [False, True])
def test_buckets_hold_whole_users_and_every_row_once(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    monkeypatch.setattr(users, "ROWS_OF_FILE", 150)
    rows = make_rows(1000, text)
    buckets = parted(rows, [0, 7, 400], 5, tmp_path / "rows")
    assert len(list((tmp_path / "rows").iterdir())) > 3
    assert set(buckets) == set(range(5))
    everything = pd.concat(buckets.values())
    pd.testing.assert_frame_equal(everything.sort_values("order", ignore_index=True), rows, check_dtype=False)
    assert sum(mine.user_id.nunique() for mine in buckets.values()) == rows.user_id.nunique()

    again = parted(rows.sample(frac=1.0, random_state=1), [500], 5, tmp_path / "again")
    for bucket, mine in buckets.items():
        assert sorted(mine.order) == sorted(again[bucket].order)


def test_no_rows(ray_session: None, tmp_path: Path) -> None:
    empty = pa.Table.from_pandas(make_rows(0, False), preserve_index=False)
    assert partition_by_user(ray.data.from_arrow(empty), 0, 3, str(tmp_path / "rows"), lambda *step: None) == {}


def test_buckets_without_users_have_no_pieces(ray_session: None, tmp_path: Path) -> None:
    rows = make_rows(10, False).assign(user_id=7)
    buckets = parted(rows, [], 50, tmp_path / "rows")
    (mine,) = buckets.values()
    assert sorted(mine.order) == list(range(10))
