"""Counts against plain pandas: sessions, levels, segments, duplicates, order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_logs import lastfm, write
from plain_prepare import sessions_of

from prefrec_ray.errors import UserError
from prefrec_ray.inspection import rows as inspection_rows
from prefrec_ray.inspection.columns import csv_format, flat_columns, profile, sample
from prefrec_ray.inspection.counts import (
    LENGTHS,
    SKETCH,
    TIMEOUTS_MINUTES,
    Counts,
    count,
    distinct_items,
    summarise_bucket,
)
from prefrec_ray.inspection.log import inspect_log
from prefrec_ray.inspection.roles import guess_roles
from prefrec_ray.inspection.rows import column_hash, rows_of_files


def histogram(levels: pd.Series) -> list[int]:
    return [int((levels == level).sum()) for level in range(6)]


def plain(log: pd.DataFrame, gap_minutes: float) -> dict:
    """Columns user, item, ms, in the order of the log."""
    per_user = log.groupby("user").size()
    sessions = {gap: sessions_of(log, gap * 60_000) for gap in TIMEOUTS_MINUTES}
    before = log.groupby("user").ms.shift()
    return {
        "rows": len(log),
        "users": log.user.nunique(),
        "first": log.ms.min(),
        "last": log.ms.max(),
        "duplicates": int(log.duplicated().sum()),
        "disorder": int((log.ms < before).sum()),
        "simultaneous": int(log.duplicated(["user", "ms"]).sum()),
        "timed": int((log.ms % 86_400_000 != 0).sum()),
        "sessions": [len(frame) for frame in sessions.values()],
        "single": [int((frame.groupby("user_id").size() == 1).sum()) for frame in sessions.values()],
        "depth_levels": histogram(sessions[gap_minutes].level_depth),
        "frequency_levels": histogram(sessions[gap_minutes].level_frequency),
        "long_users": [int((per_user > 2 * length).sum()) for length in LENGTHS],
    }


requests = st.tuples(
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from([0, 1, 1000, 599_999, 600_000, 600_001, 1_800_000, 1_800_001, 86_400_000, 86_400_001, 10**9]),
)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(requests, min_size=1, max_size=40))
def test_a_bucket_is_summed_up_as_pandas_does(rows: list[tuple[int, int, int]]) -> None:
    log = pd.DataFrame(rows, columns=["user", "item", "ms"])
    row = pd.factorize(pd.MultiIndex.from_frame(log))[0]
    columns = {"user": log.user, "item": log["item"], "time": log.ms, "order": log.index, "row": row, "used": row * 0}
    table = pa.table({name: pa.array(np.asarray(v), pa.int64()) for name, v in {**columns, "bucket": row * 0}.items()})
    # Rows of a bucket come in any order.
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(log))))
    counts = {name: v[0] for name, v in summarise_bucket(shuffled, TIMEOUTS_MINUTES, 30).to_pydict().items()}
    for name, value in plain(log, 30).items():
        assert counts[name] == value, name
    assert counts["repeats"] == len(log) - 1
    assert len(counts["items"]) == log["item"].nunique()


def look(files: list[Path]) -> tuple[Counts, pd.DataFrame]:
    names = [str(file) for file in files]
    form = csv_format(names[0])
    columns = flat_columns(names[0], form)
    table = sample(names, columns, form)
    roles = guess_roles(table, profile(table, len(table)), "log")
    frame = pd.concat([pd.read_csv(f) if f.suffix == ".csv" else pd.read_parquet(f) for f in files])
    return count(rows_of_files(names, columns, roles, form)), frame


@pytest.mark.parametrize(("suffix", "few"), [(".csv", None), (".parquet", 100)], ids=["here", "in buckets"])
def test_files_are_counted_as_pandas_does(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, few: int | None
) -> None:
    log = lastfm()
    if few is not None:
        monkeypatch.setattr(inspection_rows, "_FEW_ROWS", few)
    log = pd.concat([log, log.sample(9, random_state=0), log.assign(artist_name="another").tail(5)])
    log.loc[log.index[::50], "track_id"] = None
    half = len(log) // 2
    files = [write(log[:half], tmp_path / f"1{suffix}"), write(log[half:], tmp_path / f"2{suffix}")]
    counts, frame = look(files)
    complete = frame.dropna(subset=["track_id"])
    assert counts.incomplete == len(frame) - len(complete) > 0
    assert counts.items == complete.track_id.nunique()
    assert counts.repeats == complete.duplicated(["userid", "track_id", "timestamp"]).sum() > counts.duplicates
    ms = pd.to_datetime(complete.timestamp).astype("datetime64[ms, UTC]").astype(np.int64)
    log = pd.DataFrame({"user": complete.userid, "item": complete.track_id, "ms": ms}).reset_index(drop=True)
    expected = plain(log, 30) | {"duplicates": int(complete.duplicated().sum())}
    assert expected["duplicates"] > 0
    assert expected["disorder"] > len(log) // 2  # the latest first
    for name, value in expected.items():
        assert np.array_equal(getattr(counts, name), value), name


def test_times_that_cannot_be_read_are_counted(ray_session: None, tmp_path: Path) -> None:
    log = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 3, 4], "time": ["2020-01-01", "soon", None, "2020-01-03"]})
    file = write(log, tmp_path / "a.csv")
    names, form = [str(file)], csv_format(str(file))
    good = pa.Table.from_pandas(log.iloc[[0, 0, 3]], preserve_index=False)
    roles = guess_roles(good, profile(good, 3), "log")
    counts = count(rows_of_files(names, list(log), roles, form))
    assert (counts.rows, counts.incomplete, counts.users, counts.timed) == (2, 2, 2, 0)
    write(log[1:3], tmp_path / "a.csv")
    with pytest.raises(UserError, match="all 2 rows lack a valid user, item or time"):
        count(rows_of_files(names, list(log), roles, form))


def test_many_items_are_estimated() -> None:
    hashes = np.random.default_rng(0).integers(-(2**63), 2**63, 300_000)
    smallest = [np.sort(part.view(np.uint64))[:SKETCH].view(np.int64) for part in np.split(hashes, 10)]
    assert distinct_items(np.concatenate(smallest)) == pytest.approx(300_000, rel=0.05)
    assert distinct_items(hashes[:100].repeat(3)) == 100


def test_hashes_are_equal_where_values_are() -> None:
    for values in ([1, 2, None, 1], [0.0, 1.5, None, 0.0], ["", "b", None, ""], [True, False, None, True]):
        hashes = column_hash(pa.chunked_array([values]), 3)
        assert hashes[0] == hashes[3]
        assert len(set(hashes.tolist())) == 3
    days = column_hash(pa.chunked_array([pa.array([1, 2, None, 1], pa.int32()).cast(pa.date32())]), 3)
    assert (days[0] == days[3], len(set(days.tolist()))) == (True, 3)


def test_csv_and_parquet_have_the_same_users(ray_session: None, tmp_path: Path) -> None:
    log = pd.DataFrame({"user": [1, 2, 1, 2], "item": [7, 8, 9, 7], "time": 1_700_000_000 + np.arange(4)})
    write(log, tmp_path / "a.csv")
    write(log, tmp_path / "b.parquet")
    report = inspect_log([str(tmp_path)])
    assert (report.counts.rows, report.counts.users, report.counts.items) == (8, 2, 3)


def test_ids_with_leading_zeros_are_other_users(ray_session: None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,ts\n007,1,1700000000\n7,1,1700000001\n007,a,1700000002\n")
    report = inspect_log([str(tmp_path / "a.csv")])
    assert (report.counts.users, report.counts.items) == (2, 2)
