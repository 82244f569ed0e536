"""Two segments as what is drawn: bars are sessions, spaces between them the time away, cells of a bar its requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefrec_ray.people.labeling.items import Item
from prefrec_ray.people.labeling.texts import TEXTS

#: Units of the drawing: it is WIDTH by HEIGHT, as wide as the longer of the two histories.
WIDTH, HEIGHT = 600.0, 150.0
_WIDEST_BAR, _BARS = 26.0, 0.4  # and the most of the width that bars take
_TALLEST_CELL = 16.0
#: The space of n hours away is as wide as sqrt(n), those of a minute and less as half a bar's at least.
_WIDEST_HOUR, _LEAST_SPACE = 60.0, 0.1
_HOUR = 3_600_000
#: Icons of well-known signals, and of others as they come.
ICONS = {
    **{"click": "●", "like": "♥", "follow": "✚", "share": "➤", "comment": "✎", "watch": "▶", "purchase": "★"},
    **{"buy": "★", "dislike": "✖", "skip": "✖", "favorite": "★", "forward": "➤"},
}
_OTHER_ICONS = ("◆", "▲", "■", "◉", "⬟", "✦")
COLOURS = 6  # classes s0 to s5 of label.css


@dataclass(frozen=True)
class Signal:
    """A kind of feedback that is given or not: its name, its icon, and the number of its colour."""

    name: str
    icon: str
    colour: int


@dataclass(frozen=True)
class Cell:
    """A request in a bar; colour: that of its rarest signal, None without one."""

    y: float
    height: float
    colour: int | None


@dataclass(frozen=True)
class Bar:
    """A session."""

    x: float
    width: float
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Request:
    """What was shown, and what the user did."""

    item: Item
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

    bars: Sequence[Bar]
    sessions: Sequence[Session]
    counts: Sequence[tuple[Signal, int]]
    amounts: Sequence[tuple[str, str]]
    requests: int
    span: str
    away: str


Segment = list[dict[str, Any]]


def signals_of(names: Sequence[str]) -> dict[str, Signal]:
    """By name, the rarest first. Beyond the colours there are, signals share the last."""
    others = iter(_OTHER_ICONS * len(names))
    return {
        name: Signal(name, ICONS.get(name.lower()) or next(others), min(number, COLOURS - 1))
        for number, name in enumerate(names)
    }


def sides(segments: Sequence[Segment], signals: Mapping[str, Signal], item: Callable[[Any], Item]) -> list[Side]:
    """What is drawn of each segment (people/context.py), all on one scale. `item` says what is shown of an item.

    Nothing that follows the last request is drawn: neither the rest of its session nor the time until the next.
    """
    bar = min(_WIDEST_BAR, _BARS * WIDTH / max(map(len, segments)))
    widths = [(len(segment) * bar, sum(_spaces(segment))) for segment in segments]
    hour = min([_WIDEST_HOUR, *((WIDTH - bars) / spaces for bars, spaces in widths if spaces)])
    deepest = max(len(session["requests"]) for segment in segments for session in segment)
    height = min(HEIGHT / deepest, _TALLEST_CELL)
    return [_side(segment, signals, item, (bar, hour, height)) for segment in segments]


def duration(ms: int) -> str:
    """A time in words, rounded."""
    minutes = ms / 60_000
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return TEXTS[unit].format(round(minutes / size))
    return TEXTS["minutes"].format(max(1, round(minutes)))


def amount(value: float) -> str:
    """A number in two digits, or whole: no power of ten."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _side(
    segment: Segment, signals: Mapping[str, Signal], item: Callable[[Any], Item], scale: tuple[float, float, float]
) -> Side:
    bars, sessions, x = [], [], 0.0
    width, hour, height = scale
    first = _time(segment[0])
    for number, (session, space) in enumerate(zip(segment, _spaces(segment), strict=True)):
        requests = [_request(row, signals, item) for row in session["requests"]]
        cells = [
            Cell(
                round(HEIGHT - (i + 1) * height, 2),
                round(height, 2),
                request.signals[0].colour if request.signals else None,
            )
            for i, request in enumerate(requests)
        ]
        bars.append(Bar(round(x, 2), round(width, 2), cells))
        x += width + space * hour
        away = duration(session["gap_ms"]) if number + 1 < len(segment) else ""
        days = (_time(session).date() - first.date()).days + 1
        when = TEXTS["when"].format(days, _time(session).strftime("%H:%M"))
        sessions.append(Session(when, requests, _counts(requests, signals), away))
    everything = [request for session in sessions for request in session.requests]
    span = duration(round((_time(segment[-1]) - first).total_seconds() * 1000)) if len(segment) > 1 else ""
    gaps = [session["gap_ms"] for session in segment[:-1]]
    away = duration(sum(gaps) // len(gaps)) if gaps else ""
    return Side(bars, sessions, _counts(everything, signals), _means(segment, signals), len(everything), span, away)


def _spaces(segment: Segment) -> list[float]:
    """The space after each session; none after the last, whose gap is the outcome."""
    gaps = [session["gap_ms"] for session in segment[:-1]]
    return [max(_LEAST_SPACE, math.sqrt(gap / _HOUR)) for gap in gaps] + [0.0]


def _request(row: dict[str, Any], signals: Mapping[str, Signal], item: Callable[[Any], Item]) -> Request:
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
