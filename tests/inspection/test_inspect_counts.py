"""Counts against plain pandas: sessions, segments, duplicates, order."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_logs import lastfm, write
from plain_prepare import sessions_of
from rich.console import Console

from prefrec_ray.cli.inspect_tables import log_tables
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.inspection import counts as counts_module
from prefrec_ray.inspection.counts import count
from prefrec_ray.inspection.log import inspect_log, inspect_settings
from prefrec_ray.settings import parse


def plain(log: pd.DataFrame) -> dict:
    """Columns user, item, ms, in the order of the log."""
    per_user = log.groupby("user").size()
    return {
        "rows": len(log),
        "steps": len(log),
        "users": log.user.nunique(),
        "items": log["item"].nunique(),
        "first": log.ms.min(),
        "last": log.ms.max(),
        "repeats": int(log.duplicated().sum()),
        "shared": int(log.duplicated(["user", "ms"], keep=False).sum()),
        "timed": int((log.ms % 86_400_000 != 0).sum()),
        "sessions": {gap: len(sessions_of(log, gap * 60_000)) for gap in (10, 30, 60, 120, 1440)},
        "long_users": tuple(int((per_user > 2 * length).sum()) for length in (100, 50, 20, 10, 5)),
        "partial": False,
    }


requests = st.tuples(
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from([0, 1, 1000, 599_999, 600_000, 600_001, 1_800_000, 1_800_001, 86_400_000, 86_400_001, 10**9]),
)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(requests, min_size=1, max_size=40))
def test_rows_are_counted_as_pandas_does(rows: list[tuple[int, int, int]]) -> None:
    log = pd.DataFrame(rows, columns=["user", "item", "ms"])
    columns = {"user_id": log.user, "item_id": log["item"], "timestamp": log.ms, "order": log.index}
    table = pa.table({name: pa.array(np.asarray(values), pa.int64()) for name, values in columns.items()})
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(log))))
    assert vars(count(shuffled)) == plain(log)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_are_counted_as_pandas_does(tmp_path: Path, suffix: str) -> None:
    log = lastfm()
    log = pd.concat([log, log.sample(9, random_state=0), log.assign(artist_name="another").tail(5)])
    log.loc[log.index[::50], "track_id"] = None
    half = len(log) // 2
    files = [str(write(log[:half], tmp_path / f"1{suffix}")), str(write(log[half:], tmp_path / f"2{suffix}"))]
    report = inspect_log(files)
    complete = log.dropna(subset=["track_id"])
    (reason,) = report.refused
    assert (reason.rows, reason.column) == (len(log) - len(complete), "track_id")
    ms = pd.to_datetime(complete.timestamp).astype("datetime64[ms, UTC]").astype(np.int64)
    rows = pd.DataFrame({"user": complete.userid, "item": complete.track_id, "ms": ms}).reset_index(drop=True)
    expected = plain(rows)
    assert expected["repeats"] > 0
    assert vars(report.counts) == expected
    assert yaml.safe_load(report.yaml)["prepare"]["source"]["duplicates"] == "keep"
    assert f"time: timestamp  # {expected['shared']} rows (" in report.yaml


def test_times_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    log = pd.DataFrame({"user": 1, "item": range(400), "time": "2020-01-01"})
    log.loc[7, "time"] = "soon"
    log.loc[9, "time"] = None
    report = inspect_log([str(write(log, tmp_path / "a.csv"))])
    assert [(reason.rows, reason.row) for reason in report.refused] == [(1, 8), (1, 10)]
    assert (report.counts.rows, report.counts.users, report.counts.timed) == (398, 1, 0)


def test_a_log_of_which_prepare_refuses_all_rows(tmp_path: Path) -> None:
    write(pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [5, 6], "like": ["much", "little"]}), tmp_path / "a.csv")
    source = {"kind": "files", "path": str(tmp_path / "a.csv"), "user": "u", "item": "i", "time": "t", "time_unit": "s"}
    section = parse(PrepareSettings, {"source": source | {"feedback": ["like"]}}, "test")
    with pytest.raises(
        UserError, match=r"a\.csv: column 'like', row 1: found 'much'; expected a number; 2 rows like it"
    ):
        inspect_settings(section)


def test_csv_and_parquet_have_the_same_users(tmp_path: Path) -> None:
    log = pd.DataFrame({"user": [1, 2, 1, 2], "item": [7, 8, 9, 7], "time": 1_700_000_000 + np.arange(4)})
    write(log, tmp_path / "a.csv")
    write(log, tmp_path / "b.parquet")
    report = inspect_log([str(tmp_path)])
    assert (report.counts.rows, report.counts.users, report.counts.items) == (8, 2, 3)


def test_ids_with_leading_zeros_are_other_users(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,ts\n007,1,1700000000\n7,1,1700000001\n007,a,1700000002\n")
    report = inspect_log([str(tmp_path / "a.csv")])
    assert (report.counts.users, report.counts.items) == (2, 2)


def test_pages_are_counted(tmp_path: Path) -> None:
    rng, pages = np.random.default_rng(0), 600
    shown = np.array([rng.choice(8, 3, replace=False) for _ in range(pages)]).ravel()
    columns = {"user": np.repeat(np.arange(pages) % 30, 3), "item": shown, "view": np.repeat(np.arange(pages), 3)}
    log = pd.DataFrame({**columns, "rank": np.tile(np.arange(3), pages), "time": 1_700_000_000})
    log["time"] += 60 * log.view
    log["like"] = (rng.random(len(log)) < np.array([0.8, 0.4, 0.2])[log["rank"]] * (0.2 + 0.1 * log["item"])).astype(
        int
    )
    source = {"kind": "files", "path": str(write(log, tmp_path / "a.csv")), "time_unit": "s", "feedback": ["like"]}
    source |= {name: name for name in ("user", "item", "time")} | {"page": "view", "position": "rank"}
    report = inspect_settings(parse(PrepareSettings, {"source": source}, "test"))
    counts = report.counts
    assert (counts.rows, counts.steps, counts.shared) == (1800, 600, 0)
    out = io.StringIO()
    Console(file=out, width=120).print(*log_tables(report), sep="\n")
    assert "1,800 impressions on 600 pages of 30 users" in out.getvalue()


def test_of_a_large_log_the_first_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = pd.DataFrame({"user": np.arange(4000) % 1000, "item": np.arange(4000) % 70, "ts": 1_700_000_000})
    pq.write_table(pa.Table.from_pandas(log), tmp_path / "a.parquet", row_group_size=1000)
    monkeypatch.setattr(counts_module, "_ROWS", 2000)
    report = inspect_log([str(tmp_path / "a.parquet")])
    assert (report.counts.rows, report.counts.items) == (2000, 70)
    out = io.StringIO()
    Console(file=out, width=120).print(*log_tables(report), sep="\n")
    assert "counts are of the first 2,000 rows" in out.getvalue()
