"""The roles of columns, from their names and from their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import (
    ID,
    ITEM,
    SESSION,
    USER,
    Column,
    is_key,
    likeness,
    profile,
    time_formats,
    time_unit,
)
from prefrec_ray.inspection.proposal import flow
from prefrec_ray.logs.contract import to_python
from prefrec_ray.logs.feedback_column import RESERVED
from prefrec_ray.logs.readers.files import is_id
from prefrec_ray.logs.schemas import check_present
from prefrec_ray.logs.values import DECIMAL_COMMA, is_text, visible

TIME = ("timestamp", "time", "datetime", "ts", "date", "at", "when", "created", "occurred", "played", "unix")
DWELL = ("dwell", "watched", "spent", "played", "play", "watch", "listened", "stay")
_LENGTH = ("ms", "sec", "secs", "second", "seconds", "time", "duration", "dwell", "millis", "milliseconds", "s")
_RATIO = ("ratio", "rate", "share", "fraction", "percent", "pct", "progress", "completion", "score")
_EVENT = ("event", "action", "behavior", "behaviour", "activity", "interaction", "reaction", "type")
_MOST_EVENTS = 8  # kinds of events
_RATING = ("rating", "ratings", "star", "stars", "grade", "score")
_CLOCK = r"\d\d?:\d\d(:\d\d(\.\d+)?)?( ?[AaPp]\.?[Mm]\.?)?"  # a time of day, as text
COMMA = "numbers with a decimal comma are text; write 3.5"
_CALENDAR = ("date", "day", "week", "month", "year", "hour", "minute", "hourmin", "weekday", "dow")
_REWARD = ("reward", "satisfaction")
#: Columns of pages, which need exactly these names.
PAGE = ("page", "position", "examined")
_MAX_EMPTY = 0.5
#: Roles that a log must have -> values of such a column.
_KEYS = {
    "user": "integers or text that repeat",
    "item": "integers or text",
    "time": "numbers of s, ms, us or ns since 1970, timestamps or ISO 8601 text",
}


@dataclass(frozen=True)
class Roles:
    """The roles of a log's columns, as keys of a source of kind `files`."""

    source: dict[str, Any]
    doubts: dict[str, str]  # comments on keys of `source`
    others: dict[str, str]  # column -> reason why it is not used

    def describe(self, column: str) -> str:
        """Return the role of `column` in a few words, for a table."""
        feedback = [f for f in self.source.get("feedback", {}).values() if f["column"] == column]
        words = list(
            dict.fromkeys(f"feedback, {'events' if 'equals' in f else f.get('kind', 'number')}" for f in feedback)
        )
        of_time = self.source.get("time_format", self.source.get("time_unit", "iso"))
        units = {"time": of_time, "dwell": self.source.get("dwell_unit")}
        for role in ("user", "item", "time", "session", *PAGE, "dwell", "reward", "propensity"):
            if self.source.get(role) == column:
                words.insert(0, f"{role}, {units[role]}" if role in units else role)
        return "; ".join(words) or self.others.get(column, "")


def check_header(names: Sequence[str], where: str) -> None:
    """Raise `UserError` if the names are numbers or times: the first line of a file without a header."""
    if any(re.fullmatch(r"[\d.:\- ]+", name) for name in names):
        first = ", ".join(names)
        raise UserError(f"{where}: no header: the first line is {first}; expected names, or --column-names A,B,...")


def guess_roles(table: pa.Table, where: str, known: Mapping[str, str] = MappingProxyType({})) -> Roles:
    """Guess the roles of the columns of a sample.

    `known`: the columns of `user`, `item` and `time` that need no guess. Raises `UserError` without a user, an item or
    a time.
    """
    columns = profile(table)
    units = {c.name: unit for c in columns if (unit := time_unit(table[c.name])) is not None}
    user, item, time = _keys(columns, units, len(table), where, known)
    source: dict[str, Any] = {"user": user.name, "item": item.name, "time": time.name}
    doubts: dict[str, str] = {}
    formats = time_formats(table[time.name]) if is_text(time.kind) else []
    if formats and formats[0]:
        source["time_format"] = formats[0]
        if len(formats) > 1:
            doubts["time_format"] = f"or {flow(formats[1])}: which?"
    elif units[time.name] != "iso":
        source["time_unit"] = units[time.name]

    rest = [c for c in columns if c not in (user, item, time)]
    whole = [c for c in rest if _may_be_id(c) and not c.empty]
    session = _best([c for c in whole if _has_one(table, c.name, user.name)], SESSION)
    rest = [c for c in rest if c is not session]
    dwell = next((c for c in rest if _is_dwell(c)), None)
    reward = next((c for c in rest if c.is_number and c.has(_REWARD) and not c.empty), None)
    propensity = next((c for c in rest if c.is_number and c.has(["propensity"])), None)
    pages = _pages(rest, table, user)
    if session:
        source["session"] = session.name
    source |= {role: column.name for role, column in pages.items()}
    if dwell:
        source |= {"dwell": dwell.name, "dwell_unit": _seconds_or_ms(dwell)}
    rest = [c for c in rest if c not in (*pages.values(), dwell, reward, propensity)]
    others = _others(rest, table, units, {"item": item, "user": user})
    reactions = [c for c in rest if c.name not in others]
    if dwell and not reactions:
        reactions = [dwell]
    for name, keys, doubt in chain.from_iterable(_feedback(column, table) for column in reactions):
        source.setdefault("feedback", {})[name] = keys
        if doubt:
            doubts[name] = doubt
    if reward:
        source["reward"] = reward.name
        doubts["reward"] = "stays out of the state"
    if propensity:
        source["propensity"] = propensity.name
    return Roles(source, doubts, others)


def _pages(columns: Sequence[Column], table: pa.Table, user: Column) -> dict[str, Column]:
    """Return the columns of pages by role; none if no column has the ids of pages of one user each."""
    named = {c.name: c for c in columns if c.name in PAGE and not c.empty}
    page, position = named.get("page"), named.get("position")
    if page is None or not is_id(page.kind) or not _has_one(table, page.name, user.name):
        return {}
    if position is not None and not pa.types.is_integer(position.kind):
        del named["position"]
    if "examined" in named and feedback_kind(named["examined"]) != "binary":
        del named["examined"]
    return {role: named[role] for role in PAGE if role in named}


def _feedback(column: Column, table: pa.Table) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield name, keys and doubts of each kind of feedback in a column."""
    if _is_event(column):
        usual, *rare = _by_frequency(table[column.name])
        for value in (value for value in rare if isinstance(value, str)):  # `prepare` refuses invalid UTF-8
            plain = value.isidentifier() and value not in (*RESERVED, *table.column_names)
            doubt = f"{usual!r}, the most frequent {visible(column.name)}, is 0 in all"
            yield value if plain else f"{column.name}_{value}", {"column": column.name, "equals": value}, doubt
        return
    kind = feedback_kind(column)
    keys: dict[str, Any] = {"column": column.name} | ({"kind": kind} if kind != "number" else {})
    name = f"{column.name}_" if column.name in RESERVED else column.name
    if column.empty:
        yield name, {**keys, "missing": 0}, "empty cells count as 0: right?"
    else:
        yield name, keys, ""


def _others(
    columns: Sequence[Column], table: pa.Table, units: Mapping[str, str], keys: Mapping[str, Column]
) -> dict[str, str]:
    """Return the reasons of columns that are not feedback. `keys`: the columns of `item` and `user`, by these words."""
    others = {c.name: reason for c in columns if not _is_event(c) and (reason := _no_feedback(c, units))}
    for what, key in keys.items():
        if len(table) >= 2 * key.distinct:
            fixed = [c.name for c in columns if c.name not in others and _has_one(table, key.name, c.name)]
            others |= dict.fromkeys(fixed, f"one value per {what}")
    return others


def _keys(
    columns: Sequence[Column], units: Mapping[str, str], rows: int, where: str, known: Mapping[str, str]
) -> tuple[Column, Column, Column]:
    """Return the columns of user, item and time. `units`: of the columns that may be times.

    Raises `UserError` if one of the three is missing.
    """
    named = {role: _named(columns, role, name, units, where) for role, name in known.items()}
    times = [c for c in columns if c.name in units and c not in named.values()]
    # If no name fits, the time is the column with most values.
    time = named.get("time") or _best(times, TIME) or max(times, key=lambda c: c.distinct, default=None)
    if time is None:
        raise _missing(where, columns, "time")
    ids = [c for c in columns if c is not time and c not in named.values() and _may_be_id(c)]
    users = [c for c in ids if (is_key(c.name, USER) or c.has(ID)) and c.distinct < rows]
    user = named.get("user") or _best(users, USER)
    if user is None:
        raise _missing(where, columns, "user")
    items = [c for c in ids if (is_key(c.name, ITEM) or c.has(ID)) and c is not user]
    item = named.get("item") or _best(items, ITEM)
    if item is None:
        raise _missing(where, columns, "item")
    return user, item, time


def _named(columns: Sequence[Column], role: str, name: str, units: Mapping[str, str], where: str) -> Column:
    """Return the column `name`. Raises `UserError` if it is missing, or cannot have the role."""
    check_present(where, [name], [c.name for c in columns])
    column = next(c for c in columns if c.name == name)
    if not (name in units if role == "time" else is_id(column.kind)):
        raise UserError(f"{where}: column '{name}': found {column.kind} as {role}; expected {_KEYS[role]}")
    return column


def feedback_kind(column: Column) -> str:
    """Return the kind of a column with values: binary, seconds, ratio or count; number for everything else."""
    if pa.types.is_boolean(column.kind) or ((column.low, column.high) == (0, 1) and column.distinct == 2):
        return "binary"
    if column.low is not None and float(column.low) < 0:  # type: ignore[arg-type]
        return "number"
    if column.has(_LENGTH):
        return "seconds"
    if pa.types.is_integer(column.kind):
        return "number" if column.has(_RATING) else "count"
    if column.has(_RATIO) or float(column.high) <= 1:  # type: ignore[arg-type]
        return "ratio"
    return "number"


def _best(columns: Sequence[Column], vocabulary: Sequence[str]) -> Column | None:
    """Return the column with the likeliest name, and most values among those; None if no name has a known word."""
    likely = [(like, -c.distinct, place) for place, c in enumerate(columns) if (like := likeness(c.name, vocabulary))]
    return columns[min(likely)[-1]] if likely else None


def _may_be_id(column: Column) -> bool:
    return is_id(column.kind) and column.empty < _MAX_EMPTY


def _has_one(table: pa.Table, first: str, second: str) -> bool:
    """Return whether each value of the column `first` has one value of `second`, in the rows with both."""
    pairs = table.select([first, second]).drop_null().group_by([first, second]).aggregate([])
    return len(pairs) == pc.count_distinct(pairs[first]).as_py()


def _is_dwell(column: Column) -> bool:
    if not column.is_number or column.low is None:
        return False
    if feedback_kind(column) == "binary" or float(column.low) < 0:  # type: ignore[arg-type]
        return False
    return column.has(["dwell"]) or (column.has(DWELL) and column.has(_LENGTH))


def _is_event(column: Column) -> bool:
    """Return whether the values are kinds of events, as text or as codes."""
    codes = pa.types.is_integer(column.kind) and feedback_kind(column) != "binary"
    return column.has(_EVENT) and (is_text(column.kind) or codes) and 2 <= column.distinct <= _MOST_EVENTS


def _by_frequency(column: pa.ChunkedArray) -> list[str | bytes]:
    """Return the values of a column as text, or as bytes if they are not UTF-8; the most frequent first."""
    counts = pc.value_counts(column.cast(pa.string()).drop_null())
    order = np.argsort(-counts.field("counts").to_numpy(), kind="stable")
    return [to_python(value) for value in counts.field("values").take(pa.array(order))]


def _seconds_or_ms(column: Column) -> str:
    if column.has(["ms", "millis", "milliseconds"]):
        return "ms"
    if column.has(["s", "sec", "secs", "second", "seconds"]):
        return "s"
    # Three hours on one item are unlikely, and few platforms count in ms.
    return "ms" if float(column.high or 0) > 10_000 else "s"  # type: ignore[arg-type]


def _no_feedback(column: Column, units: Mapping[str, str]) -> str | None:
    """Return why the column is not feedback, or None if it may be."""
    if column.name in units:
        return "another time"
    if column.distinct == 0:
        return "empty"
    if pa.types.is_time(column.kind) or all(re.fullmatch(_CLOCK, str(value)) for value in column.examples):
        return "a time of day: join it with the date in one column"
    if column.examples and all(re.fullmatch(DECIMAL_COMMA, str(value)) for value in column.examples):
        return COMMA
    if not column.is_number:
        return "text" if is_text(column.kind) else str(column.kind)
    if column.has(ID):
        return "an id"
    if column.has(_CALENDAR):
        return "a part of the time"
    if column.distinct == 1:
        return "one value"
    return None


def _missing(where: str, columns: Sequence[Column], role: str) -> UserError:
    found = ", ".join(f"{visible(column.name)} ({column.kind})" for column in columns)
    blank = next((c.name for c in columns if any(str(value).startswith(" ") for value in c.examples)), None)
    found += "" if blank is None else f"; values of {visible(blank)} start with a blank"
    what = f"a{'n' * (role == 'item')} {role} ({_KEYS[role]})"
    return UserError(f"{where}: no column looks like {what}; found {found} (prefrec inspect --{role} COLUMN names it)")
