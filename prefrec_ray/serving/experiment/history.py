"""Rows of users in the logs of servers, and the participants of an experiment.

A user begins at the first recommendation under the current assignment. The order of beginnings is the order in which
outcomes become final, so that a later look adds users and changes no earlier one.

A share may grow. The users whose arm then changes before the end of their days are excluded. Only the hash of the id
decides this, so a user without another visit is excluded as well. The remaining users are still assigned at random,
with known probabilities.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.engagement import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream, codes, fraction, hash_ids
from prefrec_ray.logs.events.format import CLOCKS_MS, About, Kind, read_about
from prefrec_ray.logs.events.segments import list_segments, read_tables

HOUR_MS = 3_600_000
_OF_ROWS = ("number", "kind", "timestamp", "received", "arm", "items", "feedback", "dwell_ms", "known")
_COLUMNS = (*_OF_ROWS, "user", "user_number")
#: Key of the hash that orders users with the same beginning. It must be independent of their arms.
_TIES = 1


@dataclass(frozen=True)
class Stage:
    """Arms and their shares of the users, from one row of a log on. A later stage has larger canaries."""

    number: int  # of the row
    timestamp: int  # ms
    shares: dict[str, float]  # the main arm, then the canaries in the order of their hashes

    @property
    def borders(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first hash of each arm and the end of its hashes: canaries from 0 on, then the rest."""
        ends = np.cumsum(list(self.shares.values())[1:])
        return np.roll(np.append(0.0, ends), 1), np.append(1.0, ends)


@dataclass(frozen=True)
class Assignment:
    """The assignment of users to the current arms of one log: the same seed and arms, and canaries that only grow."""

    seed: int = 0
    stages: tuple[Stage, ...] = ()
    feedback_hours: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Return the shares of the arms now."""
        return self.stages[-1].shares if self.stages else {}

    def followed_by(self, note: dict[str, Any], number: int, timestamp: int) -> Assignment:
        """Return the assignment after the row `number`, with the JSON `note`, of kind ARMS."""
        shares = {one["arm"]: one["share"] for one in note["arms"]}
        stage, hours, canaries = Stage(number, timestamp, shares), note["feedback_hours"], list(shares)[1:]
        same = note["seed"] == self.seed and list(shares) == list(self.shares)
        if not same or any(shares[one] < self.shares[one] for one in canaries):
            return Assignment(note["seed"], (stage,), hours)
        grown = any(shares[one] > self.shares[one] for one in canaries)
        return Assignment(self.seed, (*self.stages, stage) if grown else self.stages, hours)


@dataclass(frozen=True)
class LoggedRecommendations:
    """Recommendations under the current assignment, in the order of the logs."""

    log: np.ndarray  # int64 [N], number of the log
    number: np.ndarray  # int64 [N], row of the log, from the first one under the current assignment on
    timestamp: np.ndarray  # int64 [N], ms
    user: np.ndarray  # int64 [N], row in `Events.users`
    arm: np.ndarray  # str [N]


@dataclass(frozen=True)
class Impressions:
    """Feedback on known items, in the order of the logs. Rows have negative numbers before the current assignment."""

    log: np.ndarray  # int64 [N], as in `LoggedRecommendations`
    number: np.ndarray  # int64 [N], as in `LoggedRecommendations`
    untouched: np.ndarray  # bool [N]: before this seed, which assigns the same users again, had a canary
    timestamp: np.ndarray  # int64 [N], ms
    received: np.ndarray  # int64 [N], ms, by the server's clock
    dwell_ms: np.ndarray  # float64 [N], NaN if unknown
    user: np.ndarray  # int64 [N], row in `Events.users`
    feedback: np.ndarray  # float32 [N, F]
    item: pa.ChunkedArray  # ids [N]


@dataclass(frozen=True)
class Events:
    """Rows of users in all logs.

    `until`: the time of the last row, at most the server's clock, ms; 0 without rows. `ahead`: the number of rows whose
    clock is ahead of the last row of their log, or of this machine; they are not in the other fields.
    """

    users: pa.Array  # ids [U], int64 or string
    assignments: tuple[Assignment, ...]  # of the logs
    impressions: Impressions
    recommendations: LoggedRecommendations
    until: int
    ahead: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """Return the shares of the arms now."""
        return self.assignments[0].shares

    @property
    def feedback_ms(self) -> int:
        """Return the time after which the servers refuse feedback, ms."""
        return round(HOUR_MS * max(one.feedback_hours for one in self.assignments))


def read_events(folders: Sequence[str], about: About, now: int | None = None) -> Events:
    """Read logs at the time `now`, ms (None: this machine's clock).

    A server writes rows in the order of its clock. So the last row bounds the time of a log, and one row with a wrong
    clock does not end the days of all users. Raises `UserError` if the arms of the logs now differ, and if some ids of
    users are text and others are not.
    """
    limit = (round(1000 * time.time()) if now is None else now) + CLOCKS_MS
    read = [_read_log(folder, number, about, limit) for number, folder in enumerate(folders)]
    tables, assignments, ahead = zip(*read, strict=True)
    for folder, one in zip(folders, assignments, strict=True):
        found, expected = ((each.seed, each.shares) for each in (one, assignments[0]))
        if found != expected:
            raise UserError(f"{folder}: found arms {found}; expected {expected} as in {folders[0]}")
    rows = pa.concat_tables(tables)
    numbers, texts = rows["user_number"], rows["user"]
    if numbers.null_count < len(rows) and texts.null_count < len(rows):
        raise UserError(
            f"{folders[0]} and others: found ids of users that are whole numbers and text; expected one type"
        )
    ids = texts if texts.null_count < len(rows) else numbers
    rows = rows.set_column(rows.column_names.index("user"), "user", pa.array(codes(ids)))
    counted = rows.filter(pc.and_(pc.equal(rows["kind"], Kind.FEEDBACK), pc.fill_null(rows["known"], False)))
    recommended = rows.filter(pc.and_(pc.equal(rows["kind"], Kind.RECOMMENDED), pc.greater_equal(rows["number"], 0)))
    return Events(
        users=ids.unique(),
        assignments=assignments,
        impressions=Impressions(
            **_arrays(counted, "log", "number", "untouched", "timestamp", "user"),
            received=pc.coalesce(counted["received"], counted["timestamp"]).to_numpy(),
            dwell_ms=counted["dwell_ms"].to_numpy().astype(np.float64),
            feedback=pc.list_flatten(counted["feedback"]).to_numpy().reshape(len(counted), len(about.feedback)),
            item=pc.list_flatten(counted["items"]),
        ),
        recommendations=LoggedRecommendations(
            **_arrays(recommended, "log", "number", "timestamp", "user"),
            arm=pc.fill_null(recommended["arm"], "").to_numpy(),
        ),
        until=pc.max(pc.min_element_wise(rows["timestamp"], rows["received"])).as_py() or 0,
        ahead=sum(ahead),
    )


def _arrays(rows: pa.Table, *columns: str) -> dict[str, np.ndarray]:
    return {name: rows[name].to_numpy() for name in columns}


def _read_log(folder: str, log: int, about: About, limit: int) -> tuple[pa.Table, Assignment, int]:
    """Return the rows of users in one log, numbered from the current assignment on, and the assignment.

    Also return the number of rows that are not among them: their clock is after the time `limit`, or ahead of the last
    row.
    """
    tables = [about.columns.empty_table().select(_COLUMNS)]
    assignment = Assignment()
    first_canary: dict[int, int] = {}  # by seed, with any shares
    for table in read_tables(list_segments(folder), about.columns):
        kind = table["kind"].to_numpy()
        for row in table.filter(pa.array(kind == Kind.ARMS)).select(["number", "timestamp", "note"]).to_pylist():
            assignment = assignment.followed_by(json.loads(row["note"]), row["number"], row["timestamp"])
            if len(assignment.shares) > 1:
                first_canary.setdefault(assignment.seed, row["number"])
        rows = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK)))).select(_COLUMNS)
        # Items of recommendations are most of the bytes, and are not needed.
        shown = pc.equal(rows["kind"], Kind.FEEDBACK)
        items = pc.if_else(shown, rows["items"], pa.scalar(None, rows["items"].type))
        tables.append(rows.set_column(_COLUMNS.index("items"), "items", items))
    rows = pa.concat_tables(tables).combine_chunks()
    received = pc.coalesce(rows["received"], rows["timestamp"]).to_numpy()
    ahead = received > limit
    if not ahead.all():
        ahead |= received > received[~ahead][-1] + CLOCKS_MS
    rows = rows.filter(pa.array(~ahead))
    number = rows["number"].to_numpy()
    since = assignment.stages[0].number if assignment.stages else 0
    rows = rows.set_column(0, "number", pa.array(number - since))
    rows = rows.append_column("untouched", pa.array(number < first_canary.get(assignment.seed, since)))
    return rows.append_column("log", pa.array(np.full(len(number), log))), assignment, int(ahead.sum())


def read_sessions(folder: str) -> SessionTable:
    """Return the sessions in a log; `user` counts from 0. Raises `UserError` as `read_events`, and without feedback."""
    about = read_about(folder)
    seen = read_events([folder], about).impressions
    if not len(seen.user):
        raise UserError(f"{folder}: no feedback yet; expected impressions with feedback")
    table = sessions_of(seen, np.arange(len(seen.user)), about.session_gap_ms)
    return replace(table, user=np.unique(table.user, return_inverse=True)[1])


def sessions_of(seen: Impressions, rows: np.ndarray, gap_ms: int) -> SessionTable:
    """Return the sessions of some `rows` (int64 [n]) of impressions; `user` is the row in `Events.users`."""
    rows = rows[np.lexsort((seen.number[rows], seen.timestamp[rows], seen.user[rows]))]
    user, timestamp = seen.user[rows], seen.timestamp[rows]
    return session_table(user, timestamp, session_numbers(user, timestamp, gap_ms), seen.dwell_ms[rows])


@dataclass(frozen=True)
class Participants:
    """Users whose arm stays the same during their days, in the order of their beginnings."""

    user: np.ndarray  # int64 [P], row in `Events.users`
    log: np.ndarray  # int64 [P], number of the log
    number: np.ndarray  # int64 [P], row of the first recommendation, as in `LoggedRecommendations`
    begin: np.ndarray  # int64 [P], ms
    arm: np.ndarray  # int64 [P], in the order of the shares: 0 is the main arm
    chance: np.ndarray  # float64 [P, arms]: the share of each arm among users who are not excluded
    moved: int  # excluded users

    def rows(self, users: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of `users` that are of participants, and their participants, both int64 [n].

        `users` (int64 [N]): rows in `Events.users`, which has `count` rows.
        """
        participant = np.full(count, -1)
        participant[self.user] = np.arange(len(self.user))
        rows = np.flatnonzero(participant[users] >= 0)
        return rows, participant[users[rows]]


def participants(events: Events, days_ms: int) -> Participants:
    """Return the users with a recommendation under the current assignment, whose days take `days_ms`."""
    shown, names = events.recommendations, list(events.shares)
    rows = np.flatnonzero(np.isin(shown.arm, names))
    user, first = np.unique(shown.user[rows], return_index=True)
    rows = rows[first]
    log, number, begin = shown.log[rows], shown.number[rows], shown.timestamp[rows]
    arm = np.array([names.index(one) for one in shown.arm[rows]], dtype=np.int64)
    ids = events.users.take(pa.array(user))
    seed = events.assignments[0].seed
    lows, highs = _intervals(events.assignments, log, number, begin + days_ms)
    place = fraction(hash_ids(ids, seed, Stream.ARM, 0))
    own = np.arange(len(arm)), arm
    stays = (lows[own] <= place) & (place < highs[own])
    order = np.lexsort((hash_ids(ids, seed, Stream.ARM, _TIES), begin))
    order = order[stays[order]]
    width = np.maximum(highs - lows, 0.0)[order]
    chance = width / width.sum(axis=1, keepdims=True)
    return Participants(user[order], log[order], number[order], begin[order], arm[order], chance, int((~stays).sum()))


def _intervals(
    assignments: Sequence[Assignment], log: np.ndarray, number: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes, from `low` to `high` [P, arms], that belong to each arm from row `number` to the time `end`.

    `log`, `number` and `end` are int64 [P].
    """
    arms = len(assignments[0].shares)
    lows, highs = np.zeros((len(log), arms)), np.zeros((len(log), arms))
    for of_log, assignment in enumerate(assignments):
        mine = np.flatnonzero(log == of_log)
        if not len(mine):  # perhaps a log without rows, which has no stages
            continue
        stages = assignment.stages
        numbers = np.array([stage.number for stage in stages]) - stages[0].number
        times = np.array([stage.timestamp for stage in stages])
        first = np.searchsorted(numbers, number[mine], side="right") - 1
        last = np.maximum(np.searchsorted(times, end[mine], side="right") - 1, first)
        each = np.array([stage.borders for stage in stages]).reshape(-1, 2, arms)
        for begin, until in np.unique(np.stack([first, last], axis=1), axis=0).tolist():
            these = mine[(first == begin) & (last == until)]
            lows[these] = each[begin : until + 1, 0].max(axis=0)
            highs[these] = each[begin : until + 1, 1].min(axis=0)
    return lows, highs
