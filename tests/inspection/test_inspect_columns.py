"""Profiles of columns against pandas, and the estimate of distinct values against its formula."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from inspect_logs import clickstream, write

from prefrec_ray.errors import UserError
from prefrec_ray.inspection import columns
from prefrec_ray.inspection.columns import csv_format, profile, sample
from prefrec_ray.inspection.log import inspect_log
from prefrec_ray.logs.schemas import PLAIN


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_profiles_are_those_of_pandas(tmp_path: Path, name: str) -> None:
    frame = clickstream(20)
    file = str(write(frame, tmp_path / name))
    table = sample([file], csv_format(file))
    profiles = {column.name: column for column in profile(table)}
    assert list(profiles) == list(frame.columns)
    for column in frame:
        values = frame[column].dropna()
        assert profiles[column].distinct == values.nunique()
        assert profiles[column].empty == pytest.approx(frame[column].isna().mean())
        assert (profiles[column].low, profiles[column].high) == (values.min(), values.max())
        assert set(profiles[column].examples) <= set(values)
        assert values.value_counts().iloc[0] == (values == profiles[column].examples[0]).sum()
    kinds = {column: str(profiles[column].kind) for column in ("visitorid", "event", "price")}
    assert kinds.pop("event").endswith("string")
    assert kinds == {"visitorid": "int64", "price": "double"}


def test_the_sample_is_the_start_of_the_first_file_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_ROWS", 25)
    pq.write_table(pa.table({"k": pa.array([], pa.int64())}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"k": np.arange(1000)}), tmp_path / "1.parquet", row_group_size=10)
    files = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    assert sample(files, csv_format("a.parquet"))["k"].to_pylist() == list(range(25))


def test_separators_and_nested_columns(tmp_path: Path) -> None:
    for sign in (";", "\t", "|", ","):
        file = str(write(pd.DataFrame({"a": [1], "b": [2], "c": [3]}), tmp_path / f"{ord(sign)}.csv", sep=sign))
        assert sample([file], csv_format(file)).column_names == ["a", "b", "c"]
    pq.write_table(pa.table({"a": [1], "e": [[0.5]]}), tmp_path / "e.parquet")
    assert sample([str(tmp_path / "e.parquet")], csv_format("e.parquet")).column_names == ["a"]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_is_an_empty_cell(kind: type[np.floating]) -> None:
    """`prepare` refuses both in one line, unless the column has a value for `missing`."""
    (column,) = profile(pa.table({"x": pa.array(np.array([1, np.nan, np.nan, 3], kind))}))
    assert (column.empty, column.distinct, column.low, column.high) == (0.5, 2, 1, 3)
    assert column.examples == (1, 3)


def test_no_rows_at_all(tmp_path: Path) -> None:
    file = str(write(pd.DataFrame({"a": []}), tmp_path / "a.csv"))
    with pytest.raises(UserError, match=r"a.csv: the log is empty; expected interactions"):
        sample([file], csv_format(file))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("user_id,item_id,ts,ts", "column 'ts' occurs 2 times; expected once"),
        ("1,1,1700000000,0", "no header: the first line is 1, 1, 1700000000, 0; expected names"),
    ],
)
def test_columns_of_one_name(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n1,2,1700000000,1700000000\n")
    with pytest.raises(UserError, match=words):
        inspect_log([str(tmp_path / "a.csv")])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["x", None] * 20, pa.string_view()), pa.string()),
        (pa.array([b"\xff\xfe", None] * 20, pa.binary_view()), pa.binary()),
        (pa.array([Decimal(1), None] * 20, pa.decimal32(5)), pa.decimal128(5)),
        (pa.array([b"five!", None] * 20, pa.binary(5)), pa.binary(5)),
        (pa.Array.from_buffers(pa.string(), 40, pa.array([b"\xff\xfe", None] * 20).buffers()), pa.string()),
    ],
)
def test_forms_of_columns_that_arrow_does_not_count(tmp_path: Path, values: pa.Array, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet")
    (column,) = profile(sample([str(tmp_path / "a.parquet")], PLAIN))
    assert (column.kind, column.distinct, column.empty) == (kind, 1, 0.5)


def test_dictionaries_line_breaks_and_invalid_utf8(tmp_path: Path) -> None:
    few = pa.array([f"u{k % 5}" for k in range(40)])
    event = pa.array([b"view", b"view", b"buy", b"\xff"] * 10)
    table = {
        "user_id": few.dictionary_encode(),
        "item_id": few,
        "ts": 1_700_000_000 + 60 * np.arange(40),
        "event\ntype": pa.Array.from_buffers(pa.string(), 40, event.buffers()),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    report = inspect_log([str(tmp_path / "a.parquet")])
    feedback = {"buy": {"column": "event\ntype", "equals": "buy"}}
    assert yaml.safe_load(report.yaml)["prepare"]["source"]["feedback"] == feedback
    assert [str(column.kind) for column in report.columns] == ["string", "string", "int64", "string"]
    assert [(reason.column, reason.rows) for reason in report.refused] == [("event\ntype", 10)]


def test_blanks_after_commas_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user, item, time\n1, 2, 1700000000\n1, 3, 1700000060\n")
    with pytest.raises(UserError, match=r"found user .int64., ' item' .string., .*; values of ' item' start with a bl"):
        inspect_log([str(tmp_path / "a.csv")])


@pytest.mark.parametrize(
    ("extra", "taken"),
    [
        (pa.nulls(40, pa.float64()), "empty"),
        (pa.array(np.arange(40, dtype=np.float16)), "feedback, ratio"),
        (pa.array([b"\xff\xfe", None] * 20), "binary"),
    ],
)
def test_columns_of_rare_types_and_values(tmp_path: Path, extra: pa.Array, taken: str) -> None:
    few = np.arange(40) % 5
    table = {"user_id": few, "item_id": few[::-1], "ts": 1_700_000_000 + 60 * np.arange(40), "watch_rate": extra}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    report = inspect_log([str(tmp_path / "a.parquet")])
    assert report.roles.describe("watch_rate") == taken
    assert report.counts.rows == 40
