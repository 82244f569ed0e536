"""The drawing shows the segment on one scale, and nothing later."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hand_store import segment
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.annotation.page.timeline import HEIGHT, WIDTH, Drawing, LabelItem, draw, duration, signals_of

SIGNALS = signals_of(["like", "click"])


@given(st.integers(0, 2**32 - 1))
def test_bars_are_sessions_and_cells_requests(seed: int) -> None:
    rng = np.random.default_rng(seed)
    segments = [segment(rng), segment(rng)]
    drawing = draw(segments, SIGNALS, lambda item: LabelItem(str(item)))
    for side, sessions in zip(drawing.sides, segments, strict=True):
        bars = side["sessions"]
        assert [len(bar["impressions"]) for bar in bars] == [len(session["requests"]) for session in sessions]
        assert all(a["x"] + drawing.bar <= b["x"] + 0.02 for a, b in pairwise(bars))
        assert all(bar["x"] >= 0 for bar in bars)
        assert bars[-1]["x"] + drawing.bar <= WIDTH + 0.1
        assert all(drawing.cell * len(bar["impressions"]) <= HEIGHT + 0.1 for bar in bars)
        clicks = sum(r["feedback"]["click"] for session in sessions for r in session["requests"])
        assert {signal.name: n for signal, n in side["counts"]}.get("click", 0) == clicks
        assert side["sessions"][-1]["away"] == ""


def visit(hours: float) -> dict[str, Any]:
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    requests = [{"item": 1, "feedback": {"click": 0.0, "like": 0.0}}]
    return {"start": start.isoformat(), "gap_ms": 3_600_000, "requests": requests}


def drawn(*histories: list[float]) -> Drawing:
    return draw([[visit(hours) for hours in one] for one in histories], SIGNALS, lambda item: LabelItem(str(item)))


def test_both_histories_have_one_time_axis() -> None:
    drawing = drawn([0, 24, 240], [0, 120])
    a, b = drawing.sides
    # Bars are 26 wide: 240 hours take the other 574.
    assert [bar["x"] for bar in a["sessions"]] == [0, 57.4, 574]
    assert [bar["x"] for bar in b["sessions"]] == [0, 287]
    assert drawn([0, 120], [0, 24, 240]) == replace(drawing, sides=[b, a])
    assert (drawing.unit, [text for _, text in drawing.ticks]) == ("days", ["0", "2", "4", "6", "8", "10"])
    # A tick stands in the middle of a bar that starts at its time.
    assert [drawing.ticks[-1][0], drawing.ticks[0][0]] == [587, 13]


@pytest.mark.parametrize(
    ("hours", "unit", "ticks"),
    [
        (0.0, "minutes", ["0"]),
        (0.2, "minutes", ["0", "3", "6", "9", "12"]),
        (5.0, "hours", ["0", "1", "2", "3", "4", "5"]),
        (40.0, "hours", ["0", "8", "16", "24", "32", "40"]),
        (60.0, "days", ["0", "1", "2"]),
        (24.0 * 40_000, "days", ["0", "8,000", "16,000", "24,000", "32,000", "40,000"]),
    ],
)
def test_the_axis_has_at_most_six_ticks_in_one_unit(hours: float, unit: str, ticks: list[str]) -> None:
    drawing = drawn([0, hours], [0])
    assert (drawing.unit, [text for _, text in drawing.ticks]) == (unit, ticks)


def test_bars_of_the_same_hour_stand_side_by_side() -> None:
    side, _ = drawn([0, 99, 99.5, 100], [0]).sides
    assert [bar["x"] for bar in side["sessions"]] == [0, 522, 548, 574]


def test_the_outcome_is_not_drawn() -> None:
    """Two segments that differ only in later events look the same."""
    seen = segment(np.random.default_rng(0))
    other = [*seen[:-1], {**seen[-1], "gap_ms": 999_999_999, "depth": 40}]
    first, second = draw([seen, other], SIGNALS, lambda item: LabelItem(str(item))).sides
    assert first == second


def test_the_rarest_signal_of_an_impression_comes_first() -> None:
    request = {"item": 1, "feedback": {"click": 1.0, "like": 1.0}}
    session = {"start": "2024-01-01T00:00:00+00:00", "gap_ms": None, "requests": [request]}
    side = draw([[session], [session]], SIGNALS, lambda item: LabelItem(str(item))).sides[0]
    assert [signal.icon for signal in side["sessions"][0]["impressions"][0]["signals"]] == ["♥", "●"]
    assert (side["span"], side["away"]) == ("", "")


def test_amounts_are_no_powers_of_ten() -> None:
    """366.6 seconds were shown as 3.7e+02."""
    rows = [
        {"item": 1, "feedback": {"click": 0.0, "like": 0.0, "seconds_on_page": seconds}}
        for seconds in (366.6, 99.6, 0.25, 1234567.0)
    ]
    session = {"start": "2024-01-01T00:00:00+00:00", "gap_ms": None, "requests": rows}
    side = draw([[session], [session]], SIGNALS, lambda item: LabelItem(str(item))).sides[0]
    shown = [text for request in side["sessions"][0]["impressions"] for _, text in request["amounts"]]
    assert shown == ["367", "100", "0.25", "1,234,567"]
    assert side["amounts"] == [("seconds on page", "308,758")]


def test_durations() -> None:
    texts = [
        duration(ms) for ms in (0, 90 * 60_000, 120 * 60_000, 2652 * 60_000, 2664 * 60_000, 48 * 3_600_000, 10**10)
    ]
    assert texts == ["1 minutes", "90 minutes", "2 hours", "44.2 hours", "44.4 hours", "2 days", "115.7 days"]
