"""What is drawn is what the segment holds, on one scale, and nothing of what comes after it."""

import numpy as np
import pytest
from hand_store import segment
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.people.labeling.items import Item
from prefrec_ray.people.labeling.timeline import HEIGHT, WIDTH, duration, sides, signals_of

SIGNALS = signals_of(["like", "click"])


@given(st.integers(0, 2**32 - 1))
def test_bars_are_sessions_and_cells_requests(seed: int) -> None:
    rng = np.random.default_rng(seed)
    segments = [segment(rng), segment(rng)]
    drawn = sides(segments, SIGNALS, lambda item: Item(str(item)))
    for side, sessions in zip(drawn, segments, strict=True):
        assert [len(bar.cells) for bar in side.bars] == [len(session["requests"]) for session in sessions]
        assert side.requests == sum(len(session["requests"]) for session in sessions)
        assert all(a.x + a.width < b.x for a, b in zip(side.bars, side.bars[1:], strict=False))
        assert side.bars[-1].x + side.bars[-1].width <= WIDTH + 0.1
        assert all(-0.1 <= cell.y <= HEIGHT for bar in side.bars for cell in bar.cells)
        clicks = sum(r["feedback"]["click"] for session in sessions for r in session["requests"])
        assert {signal.name: n for signal, n in side.counts}.get("click", 0) == clicks
        assert side.sessions[-1].away == ""
    heights = {cell.height for side in drawn for bar in side.bars for cell in bar.cells}
    widths = {bar.width for side in drawn for bar in side.bars}
    assert len(heights) == len(widths) == 1
    # The space of n hours is as wide as sqrt(n), on both sides.
    spaces = [
        (b.x - a.x - a.width) / np.sqrt(session["gap_ms"] / 3_600_000)
        for side, sessions in zip(drawn, segments, strict=True)
        for a, b, session in zip(side.bars, side.bars[1:], sessions, strict=False)
    ]
    assert spaces == pytest.approx([spaces[0]] * len(spaces), abs=0.05)


def test_the_outcome_is_not_drawn() -> None:
    """Two segments that differ in what follows them alone look the same."""
    seen = segment(np.random.default_rng(0))
    other = [*seen[:-1], {**seen[-1], "gap_ms": 999_999_999, "depth": 40}]
    first, second = sides([seen, other], SIGNALS, lambda item: Item(str(item)))
    assert first == second


def test_a_cell_has_the_colour_of_its_rarest_signal() -> None:
    request = {"item": 1, "feedback": {"click": 1.0, "like": 1.0}}
    session = {"start": "2024-01-01T00:00:00+00:00", "gap_ms": None, "requests": [request]}
    side = sides([[session], [session]], SIGNALS, lambda item: Item(str(item)))[0]
    assert side.bars[0].cells[0].colour == SIGNALS["like"].colour
    assert [signal.icon for signal in side.sessions[0].requests[0].signals] == ["♥", "●"]
    assert (side.span, side.away) == ("", "")


def test_amounts_are_no_powers_of_ten() -> None:
    """366.6 seconds were shown as 3.7e+02."""
    rows = [
        {"item": 1, "feedback": {"click": 0.0, "like": 0.0, "seconds_on_page": seconds}}
        for seconds in (366.6, 99.6, 0.25, 1234567.0)
    ]
    session = {"start": "2024-01-01T00:00:00+00:00", "gap_ms": None, "requests": rows}
    side = sides([[session], [session]], SIGNALS, lambda item: Item(str(item)))[0]
    shown = [text for request in side.sessions[0].requests for _, text in request.amounts]
    assert shown == ["367", "100", "0.25", "1,234,567"]
    assert side.amounts == [("seconds on page", "308,758")]


def test_durations() -> None:
    texts = [duration(ms) for ms in (0, 90 * 60_000, 120 * 60_000, 47 * 3_600_000, 48 * 3_600_000, 10**10)]
    assert texts == ["1 minutes", "90 minutes", "2 hours", "47 hours", "2 days", "116 days"]
