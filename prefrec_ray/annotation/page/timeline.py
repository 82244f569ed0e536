"""Drawing of two segments on one time axis: bars are sessions, cells of a bar are its impressions.

Titles and pictures of items come from a file; items without a title have a code.
"""

from __future__ import annotations

import csv
import hmac
import io
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from prefrec_ray import storage
from prefrec_ray.annotation.questions import Segment
from prefrec_ray.errors import UserError
from prefrec_ray.logs.schemas import check_present
from prefrec_ray.storage.parquet import read_parquet

#: Endings of pictures, and their media types; no SVG, which may hold scripts.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
_LONGEST = 120  # characters of a title
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # of a code, without letters that look alike
#: Size of the drawing; its width is the longer of the two histories.
WIDTH, HEIGHT = 600.0, 150.0
#: Largest width of a bar, and largest share of the drawing's width for all bars of a history.
_WIDEST_BAR, _BARS = 26.0, 0.4
_TALLEST_CELL = 16.0
#: Units of times and of the axis, in ms. A unit is used from twice its length on.
_UNITS = (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000))
_MOST_TICKS = 5
#: Icons of common signals, then of others in their order.
ICONS = {
    **{"click": "●", "like": "♥", "follow": "✚", "share": "➤", "comment": "✎", "watch": "▶", "purchase": "★"},
    **{"buy": "★", "dislike": "✖", "skip": "✖", "favorite": "★", "forward": "➤"},
}
_OTHER_ICONS = ("◆", "▲", "■", "◉", "⬟", "✦")
COLOURS = 6  # classes s0 to s5 of label.css


@dataclass(frozen=True)
class LabelItem:
    """title: untrusted text. picture: the name of a file, or empty."""

    title: str
    picture: str = ""


def item_code(secret: str, item: object) -> str:
    """Return a short code that identifies an item without its name."""
    digest = hmac.digest(secret.encode(), f"item {item!r}".encode(), "sha256")
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:4])


class Items:
    """The items of the file, by id, and the folder of their pictures; empty without a file.

    The code of an item without a title is a hash with `secret`.
    """

    def __init__(self, file: str | None, secret: str) -> None:
        self._items = {} if file is None else _read(file)
        self._folder = Path(storage.absolute(file)).parent if file else None
        self._secret = secret

    def __call__(self, item: Any) -> LabelItem:
        """Return the title and picture of an item."""
        return self._items.get(str(item)) or LabelItem(f"Item {item_code(self._secret, item)}")

    def picture(self, name: str) -> tuple[Path, str] | None:
        """Return the file and media type of a picture; None for any other name."""
        if self._folder is None or name not in {item.picture for item in self._items.values()} - {""}:
            return None
        path = self._folder / name
        return (path, PICTURES[path.suffix.lower()]) if path.is_file() else None


def _read(file: str) -> dict[str, LabelItem]:
    """Return items by id as text. Raises `UserError`: a missing file or column, a repeated id, a bad picture."""
    items: dict[str, LabelItem] = {}
    for number, row in enumerate(_rows(file), 1):
        where = f"{file}: row {number}"
        check_present(file, ("item_id", "title"), list(map(str, row)))
        key = "" if row["item_id"] is None else str(row["item_id"])
        picture = str(row.get("picture") or "")
        if not key or key in items:
            raise UserError(f"{where}: item_id {key!r}; expected an id that is in no row above")
        if picture and (posixpath.basename(picture) != picture or Path(picture).suffix.lower() not in PICTURES):
            raise UserError(
                f"{where}: picture {picture!r}; expected the name of a file in its folder ({', '.join(PICTURES)})"
            )
        title = " ".join(str(row["title"] or "").split()) or "(no title)"
        items[key] = LabelItem(title if len(title) <= _LONGEST else f"{title[:_LONGEST]}…", picture)
    return items


def _rows(file: str) -> list[dict[str, Any]]:
    if file.endswith(".parquet"):
        return read_parquet(file).to_pylist()
    text = storage.read_text(file).removeprefix("\ufeff")
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise UserError(f"{file}: not CSV ({error})") from error


@dataclass(frozen=True)
class Signal:
    """A binary feedback column: its name, its icon, and the number of its colour."""

    name: str
    icon: str
    colour: int


@dataclass(frozen=True)
class Drawing:
    """Both histories (`_side`), width of a bar, height of a cell, and the axis: its unit, and ticks (x, text)."""

    sides: Sequence[dict[str, Any]]
    bar: float
    cell: float
    unit: str
    ticks: Sequence[tuple[float, str]]


def signals_of(names: Sequence[str]) -> dict[str, Signal]:
    """Return signals by name, the rarest first; the seventh and later ones share the last color."""
    others = iter(_OTHER_ICONS * len(names))
    return {
        name: Signal(name, ICONS.get(name.lower()) or next(others), min(number, COLOURS - 1))
        for number, name in enumerate(names)
    }


def draw(segments: Sequence[Segment], signals: Mapping[str, Signal], item: Callable[[Any], LabelItem]) -> Drawing:
    """Return the drawing of both segments on one scale. `item` returns the title and picture of an item.

    Nothing after the last impression is drawn: neither the rest of its session nor the time until the next one.
    """
    bar = min(_WIDEST_BAR, _BARS * WIDTH / max(map(len, segments)))
    times = [_since_first(segment) for segment in segments]
    span = max(of_segment[-1] for of_segment in times)
    scale = (WIDTH - bar) / span if span else 0.0
    deepest = max(len(session["requests"]) for segment in segments for session in segment)
    sides = [
        _side(segment, of_segment, _places([time * scale for time in of_segment], bar), signals, item)
        for segment, of_segment in zip(segments, times, strict=True)
    ]
    cell = min(HEIGHT / deepest, _TALLEST_CELL)
    return Drawing(sides, round(bar, 2), round(cell, 2), *_axis(span, scale, bar))


def duration(ms: float) -> str:
    """Return a time in words, with one decimal, so that different times rarely look equal."""
    unit, size = _unit(ms)
    return f"{max(1, round(ms / size))} {unit}" if unit == "minutes" else f"{round(ms / size, 1):,g} {unit}"


def _unit(ms: float) -> tuple[str, int]:
    return next((unit for unit in _UNITS if ms >= 2 * unit[1]), _UNITS[-1])


def _since_first(segment: Segment) -> list[int]:
    """Return the time from the first session to each one, in ms."""
    starts = [datetime.fromisoformat(session["start"]) for session in segment]
    return [round((start - starts[0]).total_seconds() * 1000) for start in starts]


def _axis(span: int, scale: float, bar: float) -> tuple[str, list[tuple[float, str]]]:
    """Return unit and ticks for a span in ms; a tick is at the middle of a bar that starts there."""
    unit, ms = _unit(span)
    marks = MaxNLocator(_MOST_TICKS, integer=True).tick_values(0, span / ms)
    return unit, [(round(bar / 2 + mark * ms * scale, 2), f"{mark:,.0f}") for mark in marks if 0 <= mark * ms <= span]


def _places(wanted: Sequence[float], width: float) -> list[float]:
    """Return the left end of each bar: at its time, moved as little as needed so that bars do not overlap."""
    shift = width * np.arange(len(wanted))
    places = np.maximum.accumulate(wanted - shift) + shift
    return np.minimum(places, WIDTH - width * len(wanted) + shift).round(2).tolist()


def _side(
    segment: Segment,
    times: Sequence[int],
    places: Sequence[float],
    signals: Mapping[str, Signal],
    item: Callable[[Any], LabelItem],
) -> dict[str, Any]:
    """Return the values of a history for the template.

    sessions: bars with their left end `x`, and `away`, the time to the next session that is shown. signals: the rarest
    first. span: from the first session to the last. away: the mean time between them.
    """
    first = datetime.fromisoformat(segment[0]["start"]).date()
    gaps = [session["gap_ms"] for session in segment[:-1]]
    sessions = []
    for session, x, gap in zip(segment, places, [*gaps, None], strict=True):
        start = datetime.fromisoformat(session["start"])
        impressions = [
            {
                "item": item(row["item"]),
                "signals": [signal for name, signal in signals.items() if row["feedback"][name]],
                "amounts": _amounts(row["feedback"], signals),
            }
            for row in session["requests"]
        ]
        when = f"Day {(start.date() - first).days + 1}, {start:%H:%M}"
        away = "" if gap is None else duration(gap)
        sessions.append({"x": x, "when": when, "impressions": impressions, "away": away})
    rows = [row["feedback"] for session in segment for row in session["requests"]]
    counts = [(signal, sum(bool(row[name]) for row in rows)) for name, signal in signals.items()]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        "sessions": sessions,
        "counts": [(signal, count) for signal, count in counts if count],
        "amounts": _amounts(means, signals),
        "span": duration(times[-1]) if gaps else "",
        "away": duration(sum(gaps) // len(gaps)) if gaps else "",
    }


def _amounts(feedback: Mapping[str, float], signals: Mapping[str, Signal]) -> list[tuple[str, str]]:
    """Return feedback other than signals: whole numbers from 10 on, two digits below."""
    return [
        (name.replace("_", " "), f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}")
        for name, value in feedback.items()
        if name not in signals
    ]
