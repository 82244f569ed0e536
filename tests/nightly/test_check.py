"""A broken night is recognized by its counts, in comparison with the nights before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.logs.contract import ROWS_OF_FILE
from prefrec_ray.logs.events.format import About, write_about
from prefrec_ray.logs.sources import FilesSource
from prefrec_ray.nightly import check
from prefrec_ray.nightly.check import FeedbackStatistics, NightCounts, problems
from prefrec_ray.nightly.work import Stages


def counted(requests: int = 1000, users: int = 100, **columns: tuple[float, float, float]) -> NightCounts:
    """Columns as (low, high, share)."""
    all_columns = {"click": (0, 1, 0.4), **columns}
    feedback = {
        name: FeedbackStatistics(low=low, high=high, share=share) for name, (low, high, share) in all_columns.items()
    }
    return NightCounts(spans=((0, requests - 1),), requests=requests, users=users, feedback=feedback)


FIRST = counted(requests=50_000, users=2_000)


def test_the_first_night_passes_whatever_it_holds() -> None:
    assert problems(counted(click=(0, 0, 0)), []) == []


@pytest.mark.parametrize("value", [0.0, 1.0, 7.5])
def test_a_column_with_one_value_is_broken_if_it_had_several(value: float) -> None:
    now = counted(click=(value, value, float(value != 0)))
    (problem,) = problems(now, [FIRST])
    assert f"feedback 'click' is {value:g} in all 1,000 impressions" in problem


def test_a_column_that_always_had_one_value_may_keep_it() -> None:
    dull = counted(share=(0, 0, 0))
    assert problems(dull, [dull, dull]) == []


def test_a_column_that_is_gone_is_named() -> None:
    assert problems(counted(), [counted(like=(0, 1, 0.2))]) == [
        "feedback 'like' is missing; expected it as in earlier nights"
    ]


@given(share=st.floats(0, 1))
@example(share=0.0399)
@example(share=0.0401)
def test_a_share_may_fall_to_a_tenth(share: float) -> None:
    now, before = counted(click=(0, 1, share)), counted(click=(0, 1, 0.4))
    assert bool(problems(now, [before])) == (share < 0.4 / 10)


def test_a_rare_column_tells_nothing() -> None:
    before = counted(follow=(0, 1, 0.01))
    assert problems(counted(follow=(0, 1, 0.0005)), [before]) == []


@pytest.mark.parametrize(("requests", "found"), [(1000, True), (999, False)])
def test_a_share_counts_if_a_hundred_requests_are_expected_to_have_it(requests: int, found: bool) -> None:
    now, before = counted(requests=requests, follow=(0, 1, 0.001)), counted(follow=(0, 1, 0.1))
    assert bool(problems(now, [before])) == found


@pytest.mark.parametrize(("requests", "found"), [(100, True), (99, False)])
def test_a_rare_column_with_one_value_counts_from_a_hundred_requests_on(requests: int, found: bool) -> None:
    now, before = counted(requests=requests, follow=(0, 0, 0)), counted(follow=(0, 1, 0.01))
    assert bool(problems(now, [before])) == found


@given(requests=st.integers(1, 20_000), users=st.integers(1, 2_000))
def test_volumes_may_differ_threefold_from_all_nights_but_the_first(requests: int, users: int) -> None:
    earlier = [FIRST, counted(1000, 100), counted(1200, 90)]
    fine = 334 <= requests <= 3600 and 30 <= users <= 300
    assert bool(problems(counted(requests, users), earlier)) != fine


@pytest.mark.parametrize(
    ("growth", "low", "high"),
    [((1.0, 6.0, 1.0), 334, 18_000), ((1.0, 6.0, 6.0), 334, 21_600), ((1.0, 0.3, 1.0), 100, 3_600)],
)
def test_volumes_may_grow_like_the_canary_did(growth: tuple[float, ...], low: int, high: int) -> None:
    earlier = [FIRST, counted(1000, 100), counted(1200, 90)]
    fine = [
        requests
        for requests in (low - 1, low, high, high + 1)
        if not problems(counted(requests), earlier, None, growth)
    ]
    assert fine == [low, high]


def test_nothing_new_is_no_night() -> None:
    nothing = NightCounts(spans=(), requests=0, users=0, feedback={})
    assert problems(nothing, [FIRST]) == ["no new impressions"]


ROW = st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(-2, 2, width=32))


class Blocks(list[pa.Table]):
    """A substitute for a data set of Ray Data, in this process."""

    def map_batches(self, function: object, fn_kwargs: dict[str, object], **more: object) -> Blocks:
        return Blocks(function(block, **fn_kwargs) for block in self)  # type: ignore[operator]

    def iter_batches(self, **more: object) -> Blocks:
        return self


def table(rows: list[tuple[int, int, float]]) -> pa.Table:
    user, time, like = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    columns = {"user_id": pa.array(user, pa.int64()), "timestamp": pa.array(time, pa.int64())}
    return pa.table({**columns, "like": pa.array(like, pa.float32())})


@given(blocks=st.lists(st.lists(ROW, max_size=6), max_size=4), first=st.integers(0, 9), length=st.integers(0, 9))
def test_a_part_is_counted_as_by_hand(blocks: list[list[tuple[int, int, float]]], first: int, length: int) -> None:
    last = first + length
    log = SimpleNamespace(interactions=lambda: Blocks(map(table, blocks)), feedback=("like",))
    source = FilesSource(kind="files", path="logs", user="user", item="item", time="time")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FilesSource, "open_log", lambda source, seed: log)
        counted = check.count(source, 0, ((first, last),))
    rows = [row for block in blocks for row in block if first <= row[1] <= last]
    if not rows:
        assert counted == NightCounts(spans=(), requests=0, users=0, feedback={})
        return
    user, time, like = (np.array(column) for column in zip(*rows, strict=True))
    column = FeedbackStatistics(low=like.min(), high=like.max(), share=float(np.mean(like != 0)))
    spans = ((time.min(), time.max()),)
    assert counted == NightCounts(spans=spans, requests=len(rows), users=len(set(user)), feedback={"like": column})


def stages(source: dict[str, Any]) -> Stages:
    prepared = PrepareSettings.model_validate({"source": source})
    return Stages(prepared, None, EvaluateSettings(), "loop.yaml")  # type: ignore[arg-type]


def test_an_event_log_is_counted_by_its_rows_and_others_by_time() -> None:
    files = {"kind": "files", "path": "logs", "user": "user", "item": "item", "time": "time"}
    assert stages(files).ranges == (check.ALL,)
    assert stages({"kind": "events", "path": "a"}).ranges == ((0, ROWS_OF_FILE - 1),)
    (_, second) = stages({"kind": "events", "path": ["a", "b"]}).ranges
    assert second == (ROWS_OF_FILE, 2 * ROWS_OF_FILE - 1)


def test_event_logs_are_known_by_their_ids(tmp_path: Path) -> None:
    for name, log_id in (("a", "0000000a"), ("b", "0000000b")):
        (tmp_path / name).mkdir()
        about = About(
            log_id=log_id, item_ids="int64", feedback=(), feedback_kinds={}, user_features={}, session_gap_ms=1
        )
        write_about(str(tmp_path / name), about)
    assert stages({"kind": "events", "path": [f"{tmp_path}/b", f"{tmp_path}/a"]}).logs == ("0000000b", "0000000a")
    assert stages({"kind": "simulator", "path": "anywhere"}).logs == ()
