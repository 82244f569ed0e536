"""Drawing of two segments on one time axis: bars are sessions, cells of a bar are its impressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefrec_ray.annotation.page.items import LabelItem
from prefrec_ray.annotation.page.texts import TEXTS

#: Size of the drawing; its width is the longer of the two histories.
WIDTH, HEIGHT = 600.0, 150.0
_WIDEST_BAR, _BARS = 26.0, 0.4  # and the largest share of the width for bars
_TALLEST_CELL = 16.0
#: The axis: unit, its length in ms, and steps between ticks. The last step is as long as needed.
_UNITS = (
    ("minutes", 60_000, (1, 2, 5, 10, 15)),
    ("hours", 3_600_000, (1, 2, 3, 6, 12)),
    ("days", 86_400_000, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
_MOST_TICKS = 5
#: Icons of common signals, then of others in their order.
ICONS = {
    **{"click": "●", "like": "♥", "follow": "✚", "share": "➤", "comment": "✎", "watch": "▶", "purchase": "★"},
    **{"buy": "★", "dislike": "✖", "skip": "✖", "favorite": "★", "forward": "➤"},
}
_OTHER_ICONS = ("◆", "▲", "■", "◉", "⬟", "✦")
COLOURS = 6  # classes s0 to s5 of label.css


@dataclass(frozen=True)
class Signal:
    """A binary feedback column: its name, its icon, and the number of its colour."""

    name: str
    icon: str
    colour: int


@dataclass(frozen=True)
class ImpressionMark:
    """An impression in a bar; colour: the number of its rarest signal; None without a signal."""

    y: float
    height: float
    colour: int | None


@dataclass(frozen=True)
class Bar:
    """A session."""

    x: float
    width: float
    cells: Sequence[ImpressionMark]


@dataclass(frozen=True)
class Tick:
    """A mark of the time axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Axis:
    """The time since the first session; unit: days, hours or minutes."""

    unit: str
    ticks: Sequence[Tick]


@dataclass(frozen=True)
class Request:
    """An impression: an item and the reactions of the user."""

    item: LabelItem
    signals: Sequence[Signal]
    amounts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Session:
    """A session in words. away: the time to the next one that is shown, empty for the last."""

    when: str
    requests: Sequence[Request]
    counts: Sequence[tuple[Signal, int]]
    away: str


@dataclass(frozen=True)
class Side:
    """One of the two histories. span: from its first session to its last; away: the mean time between them."""

    axis: Axis
    bars: Sequence[Bar]
    sessions: Sequence[Session]
    counts: Sequence[tuple[Signal, int]]
    amounts: Sequence[tuple[str, str]]
    requests: int
    span: str
    away: str


Segment = list[dict[str, Any]]


def signals_of(names: Sequence[str]) -> dict[str, Signal]:
    """Return signals by name, the rarest first; the seventh and later ones share the last color."""
    others = iter(_OTHER_ICONS * len(names))
    return {
        name: Signal(name, ICONS.get(name.lower()) or next(others), min(number, COLOURS - 1))
        for number, name in enumerate(names)
    }


def sides(segments: Sequence[Segment], signals: Mapping[str, Signal], item: Callable[[Any], LabelItem]) -> list[Side]:
    """Return the drawing of each segment on one scale. `item` returns the title of an item.

    Nothing after the last impression is drawn: neither the rest of its session nor the time until the next one.
    """
    bar = min(_WIDEST_BAR, _BARS * WIDTH / max(map(len, segments)))
    span = max(_since(segment)[-1] for segment in segments)
    scale = (WIDTH - bar) / span if span else 0.0
    deepest = max(len(session["requests"]) for segment in segments for session in segment)
    height = min(HEIGHT / deepest, _TALLEST_CELL)
    axis = _axis(span, scale, bar)
    return [_side(segment, signals, item, axis, (bar, scale, height)) for segment in segments]


def _since(segment: Segment) -> list[int]:
    """Return the time from the first session to each one, in ms."""
    first = _time(segment[0])
    return [round((_time(session) - first).total_seconds() * 1000) for session in segment]


def _axis(span: int, scale: float, bar: float) -> Axis:
    """Return the axis of a span in ms; a tick is at the middle of a bar that starts there."""
    steps = ((unit, ms, step) for unit, ms, steps in _UNITS for step in steps)
    unit, ms, step = next(
        (found for found in steps if span <= found[1] * found[2] * _MOST_TICKS), ("days", 86_400_000, 0)
    )
    step = step or -(-span // (ms * _MOST_TICKS))
    marks = range(0, span // ms + 1, step)
    return Axis(unit, [Tick(round(bar / 2 + mark * ms * scale, 2), f"{mark:,}") for mark in marks])


def _places(segment: Segment, width: float, scale: float) -> list[float]:
    """Return the left end of each bar: at its time, moved as little as needed so that bars do not overlap."""
    places: list[float] = []
    for time in _since(segment):
        places.append(max(time * scale, places[-1] + width if places else 0.0))
    for number in range(len(places) - 1, -1, -1):
        last = places[number + 1] if number + 1 < len(places) else WIDTH
        places[number] = min(places[number], last - width)
    return places


def duration(ms: int) -> str:
    """Return a time in words, with one decimal, so that two histories rarely look equal unless they are."""
    minutes = ms / 60_000
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return TEXTS[unit].format(f"{round(minutes / size, 1):,g}")
    return TEXTS["minutes"].format(max(1, round(minutes)))


def amount(value: float) -> str:
    """Return a number in two digits, or whole; never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _side(
    segment: Segment,
    signals: Mapping[str, Signal],
    item: Callable[[Any], LabelItem],
    axis: Axis,
    size: tuple[float, float, float],
) -> Side:
    bars, sessions = [], []
    width, scale, height = size
    first = _time(segment[0])
    for number, (session, x) in enumerate(zip(segment, _places(segment, width, scale), strict=True)):
        requests = [_request(row, signals, item) for row in session["requests"]]
        cells = [
            ImpressionMark(
                round(HEIGHT - (i + 1) * height, 2),
                round(height, 2),
                request.signals[0].colour if request.signals else None,
            )
            for i, request in enumerate(requests)
        ]
        bars.append(Bar(round(x, 2), round(width, 2), cells))
        away = duration(session["gap_ms"]) if number + 1 < len(segment) else ""
        days = (_time(session).date() - first.date()).days + 1
        when = TEXTS["when"].format(days, _time(session).strftime("%H:%M"))
        sessions.append(Session(when, requests, _counts(requests, signals), away))
    everything = [request for session in sessions for request in session.requests]
    span = duration(_since(segment)[-1]) if len(segment) > 1 else ""
    gaps = [session["gap_ms"] for session in segment[:-1]]
    away = duration(sum(gaps) // len(gaps)) if gaps else ""
    amounts = _means(segment, signals)
    return Side(axis, bars, sessions, _counts(everything, signals), amounts, len(everything), span, away)


def _request(row: dict[str, Any], signals: Mapping[str, Signal], item: Callable[[Any], LabelItem]) -> Request:
    given = [signal for name, signal in signals.items() if row["feedback"][name]]
    amounts = [
        (name.replace("_", " "), amount(value)) for name, value in row["feedback"].items() if name not in signals
    ]
    return Request(item(row["item"]), given, amounts)


def _counts(requests: Sequence[Request], signals: Mapping[str, Signal]) -> list[tuple[Signal, int]]:
    count = [(signal, sum(signal in request.signals for request in requests)) for signal in signals.values()]
    return [(signal, n) for signal, n in count if n]


def _means(segment: Segment, signals: Mapping[str, Signal]) -> list[tuple[str, str]]:
    rows = [request["feedback"] for session in segment for request in session["requests"]]
    return [
        (name.replace("_", " "), amount(sum(row[name] for row in rows) / len(rows)))
        for name in rows[0]
        if name not in signals
    ]


def _time(session: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(session["start"])
