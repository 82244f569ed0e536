"""Selection of impressions: repeated rows and unknown items, against plain pandas."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset.prepare import rows as rows_module
from prefrec_ray.dataset.prepare.rows import RowRules, in_earlier_source
from prefrec_ray.dataset.prepare.run import _check_like
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import LoggedSource, equal_rows
from prefrec_ray.mdp.state import StateDefinition


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """Sorted by user and time, many of them alike."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": np.sort(rng.integers(0, 3, count)),
            "item_id": rng.integers(0, 3, count),
            "timestamp": rng.integers(0, 4, count),
            "dwell_ms": np.where(rng.random(count) < 0.3, np.nan, rng.integers(0, 9, count).astype(float)),
            "like": rng.integers(0, 2, count).astype(np.float32),
        }
    )
    frame["row_hash"] = pd.util.hash_pandas_object(frame, index=False).astype(np.int64)
    return frame.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_all_but_the_first_of_equal_rows_are_repeated(count: int, seed: int) -> None:
    frame = rows_of(count, seed)
    table = pa.Table.from_pandas(frame.assign(order=np.arange(count)), preserve_index=False)
    np.testing.assert_array_equal(equal_rows(table), frame.duplicated())


@pytest.mark.parametrize("name", ["source", "order_min"])
def test_feedback_of_any_name_is_compared(tmp_path: Path, name: str) -> None:
    rows = pa.table({"user_id": [1, 1], "item_id": [1, 1], "timestamp": [5, 5], "order": [0, 1], name: [1.0, 0.0]})
    rules = RowRules(Side(str(tmp_path), keep_rows=False), (LoggedSource(("a.csv",), unique_rows=True),))
    assert rules(rows, 0)[0][name].to_pylist() == [1.0, 0.0]


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_rows_that_an_earlier_source_has_are_found(count: int, seed: int) -> None:
    frame = rows_of(count, seed)
    source = np.random.default_rng(seed).integers(0, 3, count)
    keys = list(zip(frame.user_id, frame.item_id, frame.timestamp, strict=True))
    expected = [
        any(keys[other] == keys[row] and source[other] < source[row] for other in range(count)) for row in range(count)
    ]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    np.testing.assert_array_equal(in_earlier_source(table, source), np.array(expected, bool))


def test_what_is_dropped_is_counted(ray_session: None, tmp_path: Path) -> None:
    side = Side(str(tmp_path), keep_rows=False)
    frame = rows_of(60, seed=1)
    frame["order"] = np.arange(60)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    rows, dropped = RowRules(side, known_items=[ray.put(pa.array([0, 2]))])(table, 0)
    unique = frame[~frame.duplicated([name for name in frame if name != "order"])]
    assert dropped == {
        "duplicates": 60 - len(unique),
        "in_two_sources": 0,
        "unknown_items": int((unique.item_id == 1).sum()),
        "unexamined": 0,
    }
    assert min(dropped["duplicates"], dropped["unknown_items"]) > 0
    assert rows["item_id"].to_pylist() == unique[unique.item_id != 1].item_id.tolist()
    assert "row_hash" not in rows.column_names
    assert side.reasons() == []
    whole, dropped = RowRules(side)(table.drop_columns(["row_hash"]), 0)
    assert whole.drop_columns(["step"]) == table.drop_columns(["row_hash"])
    assert whole["step"].to_pylist() == frame.groupby("user_id").cumcount().tolist()
    assert set(dropped.values()) == {0}


@pytest.mark.parametrize(("ids", "known"), [([1, 2], ["1", "2"]), ([1, 2], ["a", "b"]), (["1", "2"], [1, 2])])
def test_item_ids_of_another_kind_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list, known: list
) -> None:
    monkeypatch.setattr(rows_module.ray, "get", lambda value: value)
    rows = pa.table({"user_id": [1, 1], "item_id": ids, "timestamp": [1, 2], "order": [0, 1]})
    rules = RowRules(Side(str(tmp_path), keep_rows=False), known_items=[pa.array(known)])
    found, expected = (pa.array(of).type for of in (ids, known))
    with pytest.raises(UserError, match=rf"^item ids of the log: found {found}; expected {expected}, as in "):
        rules(rows, 0)


def test_feedback_of_another_kind_is_one_line() -> None:
    state = StateDefinition(feedback=("like",), user_features={}, feedback_kinds={"like": "seconds"})
    like = SimpleNamespace(uri="first", state=state, metadata=SimpleNamespace(given_sessions=False))
    log = SimpleNamespace(feedback=("like",), feedback_kinds={"like": "seconds"}, given_sessions=False, users=None)
    _check_like(log, like)
    log.feedback_kinds = {}  # any number: one of -2 is none on the scale of seconds
    with pytest.raises(UserError, match=r"kind number; expected seconds, as in first$"):
        _check_like(log, like)
