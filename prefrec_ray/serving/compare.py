"""Tells arms apart by what their users did: the paper's levels against the users' own averages, depth, return.

A user counts once, when `days` have passed since the first session after the arms were dealt: what users do in their
first days is settled then, so that looking again every night is looking at a longer sequence of users.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.engagement.levels import MAX_LEVEL
from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError
from prefrec_ray.events.format import ABOUT, SEGMENTS, SUFFIX, Kind, pieces, schema
from prefrec_ray.ids import codes
from prefrec_ray.serving.sequence import FIRST, effects, mean_sequence
from prefrec_ray.serving.settings import MAIN

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
#: Outcomes in the order of the table, and what they are.
OUTCOMES = {
    "depth level": "depth of sessions against the user's own mean before, floor and 0 to 5 (Eq. 11)",
    "frequency level": "the user's own mean time to return before, against that of sessions",
    "mixture level": "half of both",
    "depth": "requests a session",
    "sessions a day": "sessions that begin in the user's days, a day",
    "hours to return": "from a session's end to the next, or to the end of the user's days",
    "requests a day": "all requests of these sessions, a day",
}


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference, its interval at all times, and of how many users."""

    value: float
    low: float
    high: float
    users: int

    @property
    def verdict(self) -> str:
        """Of a difference: `more`, `less`, or `not told apart`."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Comparison:
    """What arms are worth: for each outcome each arm's mean, and each canary's difference from the main arm."""

    days: float
    users: Mapping[str, int]  # of each arm, whose days have passed
    waiting: int  # users whose days have not
    policies: Mapping[str, list[str]]  # the digests that each arm had
    means: Mapping[str, Mapping[str, Estimate | None]]  # outcome -> arm
    differences: Mapping[str, Mapping[str, Estimate | None]]  # outcome -> canary
    shadows: Mapping[str, float]  # shadow -> share of its items that were shown

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""

        def plain(of: Mapping[str, Mapping[str, Estimate | None]]) -> dict[str, Any]:
            return {
                outcome: {arm: None if one is None else {**vars(one)} for arm, one in arms.items()}
                for outcome, arms in of.items()
            }

        return {
            "days": self.days,
            "users": dict(self.users),
            "waiting": self.waiting,
            "policies": dict(self.policies),
            "means": plain(self.means),
            "differences": plain(self.differences),
            "shadows": dict(self.shadows),
        }


def compare(folder: str, days: float = 7.0) -> Comparison:
    """The arms of the events in `folder`, since users are dealt to arms as they are now.

    Holds some columns of all events in memory, some 40 bytes each. Raises `UserError` for a folder that no server
    wrote, and where there is one arm only.
    """
    about = storage.join(folder, ABOUT)
    if not storage.exists(about):
        raise UserError(f"{folder}: no folder of events ({ABOUT} is missing); expected that of `prefrec serve --state`")
    described = storage.read_json(about)
    events = read_events(folder, schema(pa.int64() if described["item_ids"] == "int64" else pa.string()))
    shares, since = events.dealt()
    if len(shares) < 2:
        raise UserError(f"{folder}: one arm only; expected canaries (serve.canaries) to compare {MAIN} with")
    gap = described["session_gap_ms"]
    users = _Users(events.sessions(gap), days, events.until - gap)
    arm = events.arm_after(since)
    dealt = [user for user in users.after(since) if arm.get(user) in shares]
    counted = [user for user in dealt if users.settled(user)]
    rows = [users.outcomes(user, since) for user in counted]
    arms = np.array([arm[user] for user in counted], dtype=object)
    means: dict[str, dict[str, Estimate | None]] = {}
    differences: dict[str, dict[str, Estimate | None]] = {}
    for name in OUTCOMES:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        known = ~np.isnan(values)
        means[name] = {one: _mean(values[known & (arms == one)]) for one in shares}
        differences[name] = {
            one: _difference(values[known], arms[known], one, shares[one] / (shares[one] + shares[MAIN]))
            for one in shares
            if one != MAIN
        }
    return Comparison(
        days=days,
        users={one: int((arms == one).sum()) for one in shares},
        waiting=len(dealt) - len(counted),
        policies=events.policies(since),
        means=means,
        differences=differences,
        shadows=events.overlap(since),
    )


def _mean(values: np.ndarray) -> Estimate | None:
    if len(values) < FIRST:
        return None
    mean, half = mean_sequence(values)
    return Estimate(float(mean[-1]), float(mean[-1] - half[-1]), float(mean[-1] + half[-1]), len(values))


def _difference(values: np.ndarray, arms: np.ndarray, arm: str, share: float) -> Estimate | None:
    both = (arms == arm) | (arms == MAIN)
    values, treated = values[both], arms[both] == arm
    if min(treated.sum(), (~treated).sum()) < FIRST:
        return None
    return _mean(effects(values, treated, np.full(len(values), share)))


@dataclass(frozen=True)
class Sessions:
    """The sessions of all users, and the number of the row that began each, int64 [M]."""

    table: SessionTable
    number: np.ndarray


class _Users:
    """What users do in their first `days` after a row of the log, known up to the time `until`, ms."""

    def __init__(self, sessions: Sessions, days: float, until: int) -> None:
        self._table, self._number, self._until = sessions.table, sessions.number, until
        self._days, self._span = days, round(days * DAY_MS)
        self._bounds = np.searchsorted(self._table.user, np.arange(int(self._table.user.max(initial=-1)) + 2))
        self._first: dict[int, int] = {}

    def after(self, since: int) -> list[int]:
        """Users with a session that begins after the row `since`, in the order in which their days end."""
        for row in np.flatnonzero(self._number >= since).tolist():
            self._first.setdefault(int(self._table.user[row]), int(self._table.start[row]))
        return sorted(self._first, key=lambda user: self._first[user])

    def settled(self, user: int) -> bool:
        """Whether the user's days have passed."""
        return self._first[user] + self._span <= self._until

    def outcomes(self, user: int, since: int) -> dict[str, float]:
        """NaN for levels of a user without an average of the user's own before."""
        rows = slice(self._bounds[user], self._bounds[user + 1])
        start, exit_ = self._table.start[rows], self._table.exit[rows]
        depth, revisit = self._table.depth[rows], self._table.revisit_ms[rows]
        end, before = self._first[user] + self._span, self._number[rows] < since
        mine = ~before & (start < end)
        pause = np.minimum(np.where(np.isnan(revisit), np.inf, revisit), np.maximum(end - exit_, 1))[mine]
        returned = revisit[before & ~np.isnan(revisit)]
        own_depth = depth[before].mean() if before.any() else np.nan
        own_revisit = returned.mean() if len(returned) else np.nan
        of_depth = float(np.clip(np.floor(depth[mine] / own_depth), 0, MAX_LEVEL).mean())
        of_frequency = float(np.clip(np.floor(own_revisit / pause), 0, MAX_LEVEL).mean())
        values = of_depth, of_frequency, 0.5 * (of_depth + of_frequency), float(depth[mine].mean())
        rates = mine.sum() / self._days, float(pause.mean()) / HOUR_MS, depth[mine].sum() / self._days
        return dict(zip(OUTCOMES, (*values, *rates), strict=True))


@dataclass(frozen=True)
class _Events:
    """Columns of the rows of recommendations and feedback, in the order of the log, and what else is said there."""

    number: np.ndarray  # int64 [N], of the row
    timestamp: np.ndarray  # int64 [N], ms
    dwell_ms: np.ndarray  # float64 [N], NaN where unknown
    request: np.ndarray  # bool [N]: feedback on a known item
    user: np.ndarray  # int64 [N]
    arm: np.ndarray  # str [N]
    policy: np.ndarray  # str [N]
    recommended: np.ndarray  # bool [N]
    arms: list[tuple[int, int, dict[str, float]]]  # row, and the seed and the shares of the arms from there on
    overlaps: list[tuple[int, str, float]]  # row, shadow, share of its items that were shown

    @property
    def until(self) -> int:
        """The time of the last event."""
        return int(self.timestamp.max())

    def dealt(self) -> tuple[dict[str, float], int]:
        """The shares of the arms now, and the row from which on users are dealt so."""
        dealt: tuple[int, dict[str, float]] = 0, {}
        since = 0
        for row, seed, shares in self.arms:
            if (seed, shares) != dealt:
                dealt, since = (seed, shares), row
        return dealt[1], since

    def sessions(self, gap_ms: int) -> Sessions:
        """The sessions of all users."""
        rows = np.flatnonzero(self.request)
        rows = rows[np.lexsort((self.number[rows], self.timestamp[rows], self.user[rows]))]
        user, timestamp = self.user[rows], self.timestamp[rows]
        numbers = session_numbers(user, timestamp, gap_ms)
        table = session_table(user, timestamp, numbers, self.dwell_ms[rows])
        return Sessions(table, self.number[rows][table.first_row])

    def arm_after(self, since: int) -> dict[int, str]:
        """The arm of each user who was given something from the row `since` on; feedback may be on what was before."""
        later = np.flatnonzero(self.recommended & (self.number >= since))
        user, first = np.unique(self.user[later], return_index=True)
        return dict(zip(user.tolist(), self.arm[later[first]].tolist(), strict=True))

    def policies(self, since: int) -> dict[str, list[str]]:
        """The digests of the policies that each arm had from the row `since` on."""
        later = (self.number >= since) & (self.policy != "")
        found = sorted(set(zip(self.arm[later].tolist(), self.policy[later].tolist(), strict=True)))
        return {arm: [policy for one, policy in found if one == arm] for arm in dict(found)}

    def overlap(self, since: int) -> dict[str, float]:
        """Of each shadow, the mean share of its items that were shown too."""
        later = [(shadow, share) for row, shadow, share in self.overlaps if row >= since]
        return {name: float(np.mean([share for one, share in later if one == name])) for name in dict(later)}


def read_events(folder: str, columns: pa.Schema) -> _Events:
    """The rows of a log. Raises `UserError` where there are none of users."""
    tables, arms, overlaps = [], [], []
    for file in storage.list_files(storage.join(folder, SEGMENTS), SUFFIX):
        for piece in pieces(pa.py_buffer(storage.read_bytes(file)), columns):
            table = pa.Table.from_batches([piece.batch])
            kind = table["kind"].to_numpy()
            for row in table.filter(pa.array(kind == Kind.ARMS)).select(["number", "note"]).to_pylist():
                said = json.loads(row["note"])
                shares = {one["arm"]: one["share"] for one in said["arms"] if not one["shadow"]}
                arms.append((row["number"], said["seed"], shares))
            overlaps += _overlaps(table, kind)
            kept = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))))
            who = pc.coalesce(kept["user"], kept["user_number"].cast(pa.string()))
            tables.append(kept.select([*_COLUMNS]).append_column("who", who))
    rows = pa.concat_tables(tables).combine_chunks() if tables else None
    if rows is None or not rows.num_rows:
        raise UserError(f"{folder}: no events yet; expected recommendations and feedback")
    known = pc.fill_null(rows["known"], False).to_numpy()
    return _Events(
        number=rows["number"].to_numpy(),
        timestamp=rows["timestamp"].to_numpy(),
        dwell_ms=rows["dwell_ms"].to_numpy().astype(np.float64),
        request=(rows["kind"].to_numpy() == Kind.FEEDBACK) & known,
        user=codes(rows["who"]),
        arm=pc.fill_null(rows["arm"], "").to_numpy(),
        policy=pc.fill_null(rows["policy"], "").to_numpy(),
        recommended=rows["kind"].to_numpy() == Kind.RECOMMENDED,
        arms=arms,
        overlaps=overlaps,
    )


_COLUMNS = ("number", "kind", "timestamp", "arm", "policy", "dwell_ms", "known")


def _overlaps(table: pa.Table, kind: np.ndarray) -> list[tuple[int, str, float]]:
    """Of each row of a shadow in a batch: its number, its name, and the share of its items that were shown."""
    if not (kind == Kind.SHADOWED).any():
        return []
    rows = table.select(["number", "kind", "event_id", "arm", "items"]).to_pylist()
    shown = {row["event_id"]: set(row["items"]) for row in rows if row["kind"] == Kind.RECOMMENDED}
    return [
        (row["number"], row["arm"], len(shown[row["event_id"]] & set(row["items"])) / len(row["items"]))
        for row in rows
        if row["kind"] == Kind.SHADOWED and row["items"]
    ]
