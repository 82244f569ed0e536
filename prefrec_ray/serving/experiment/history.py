"""Rows of users and the arms, read from the logs of servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.engagement import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.events.format import About, Kind, read_about
from prefrec_ray.logs.events.segments import list_segments, read_tables
from prefrec_ray.serving.settings import ServeSettings

HOUR_MS = 3_600_000
_OF_ROWS = ("number", "kind", "timestamp", "received", "arm", "policy", "items", "feedback", "dwell_ms", "known")
_COLUMNS = (*_OF_ROWS, "user", "user_number")
_FEEDBACK_HOURS: float = ServeSettings.model_fields["feedback_hours"].default


@dataclass(frozen=True)
class Stage:
    """Arms and their shares of the users, from one row of a log on. A later stage has larger canaries."""

    number: int  # of the row
    timestamp: int  # ms
    shares: dict[str, float]  # the main arm, then the canaries in the order of their hashes


@dataclass(frozen=True)
class Assignment:
    """The assignment of users to the current arms of one log: the same seed and arms, and canaries that only grow."""

    seed: int = 0
    stages: tuple[Stage, ...] = ()
    feedback_hours: float = _FEEDBACK_HOURS

    @property
    def shares(self) -> dict[str, float]:
        """Return the shares of the arms now."""
        return self.stages[-1].shares if self.stages else {}

    def followed_by(self, note: dict[str, Any], number: int, timestamp: int) -> Assignment:
        """Return the assignment after the row `number`, with the JSON `note`, of kind ARMS."""
        shares = {one["arm"]: one["share"] for one in note["arms"]}
        hours = note.get("feedback_hours", _FEEDBACK_HOURS)
        stage = Stage(number, timestamp, shares)
        canaries = list(shares)[1:]
        same = note["seed"] == self.seed and list(shares) == list(self.shares)
        if not same or any(shares[one] < self.shares[one] for one in canaries):
            return Assignment(note["seed"], (stage,), hours)
        grown = any(shares[one] > self.shares[one] for one in canaries)
        return Assignment(self.seed, (*self.stages, stage) if grown else self.stages, hours)


@dataclass(frozen=True)
class Impressions:
    """Feedback on known items, in the order of the logs. Rows have negative numbers before the current assignment."""

    log: np.ndarray  # int64 [N], number of the log
    number: np.ndarray  # int64 [N], row of the log, from the first one under the current assignment on
    untouched: np.ndarray  # bool [N]: before this seed, which assigns the same users again, had a canary
    timestamp: np.ndarray  # int64 [N], ms
    received: np.ndarray  # int64 [N], ms, by the server's clock
    dwell_ms: np.ndarray  # float64 [N], NaN if unknown
    user: np.ndarray  # int64 [N], row in `Events.users`
    feedback: np.ndarray  # float32 [N, F]
    item: pa.ChunkedArray  # ids [N]


@dataclass(frozen=True)
class Recommendations:
    """Recommendations under the current assignment, in the order of the logs."""

    log: np.ndarray  # int64 [N]
    number: np.ndarray  # int64 [N], as in `Impressions`
    timestamp: np.ndarray  # int64 [N], ms
    user: np.ndarray  # int64 [N], row in `Events.users`
    arm: np.ndarray  # str [N]
    policy: np.ndarray  # str [N]


@dataclass(frozen=True)
class Events:
    """Rows of users in all logs. `until`: the time of the last row, at most the server's clock, ms; 0 without rows."""

    users: pa.Array  # ids [U], int64 or string
    assignments: tuple[Assignment, ...]  # of the logs
    impressions: Impressions
    recommendations: Recommendations
    until: int

    @property
    def shares(self) -> dict[str, float]:
        """Return the shares of the arms now."""
        return self.assignments[0].shares

    @property
    def feedback_ms(self) -> int:
        """Return the time after which the servers refuse feedback, ms."""
        return round(HOUR_MS * max(one.feedback_hours for one in self.assignments))


def read_events(folders: Sequence[str], about: About) -> Events:
    """Read logs. Raises `UserError` if their arms now differ, and if some ids of users are text and others are not."""
    tables, assignments = zip(*(_read_log(folder, number, about) for number, folder in enumerate(folders)), strict=True)
    for folder, one in zip(folders, assignments, strict=True):
        found, expected = ((each.seed, each.shares) for each in (one, assignments[0]))
        if found != expected:
            raise UserError(f"{folder}: found arms {found}; expected {expected} as in {folders[0]}")
    rows = pa.concat_tables(tables)
    ids = _user_ids(rows, folders[0])
    rows = rows.append_column("who", pa.array(codes(ids)))
    counted = pc.and_(pc.equal(rows["kind"], Kind.FEEDBACK), pc.fill_null(rows["known"], False))
    recommended = pc.and_(pc.equal(rows["kind"], Kind.RECOMMENDED), pc.greater_equal(rows["number"], 0))
    times = pc.min_element_wise(rows["timestamp"], rows["received"])
    return Events(
        users=ids.unique(),
        assignments=assignments,
        impressions=_impressions(rows.filter(counted), len(about.feedback)),
        recommendations=_recommendations(rows.filter(recommended)),
        until=pc.max(times).as_py() or 0,
    )


def read_sessions(folder: str) -> SessionTable:
    """Return the sessions in a log; `user` counts from 0. Raises `UserError` as `read_events`, and without feedback."""
    about = read_about(folder)
    seen = read_events([folder], about).impressions
    if not len(seen.user):
        raise UserError(f"{folder}: no feedback yet; expected impressions with feedback")
    order = np.lexsort((seen.number, seen.timestamp, seen.user))
    user, timestamp = np.unique(seen.user, return_inverse=True)[1][order], seen.timestamp[order]
    return session_table(user, timestamp, session_numbers(user, timestamp, about.session_gap_ms), seen.dwell_ms[order])


def _impressions(rows: pa.Table, width: int) -> Impressions:
    feedback = pc.list_flatten(rows["feedback"]).to_numpy().reshape(-1, width)
    return Impressions(
        log=rows["log"].to_numpy(),
        number=rows["number"].to_numpy(),
        untouched=rows["untouched"].to_numpy(),
        timestamp=rows["timestamp"].to_numpy(),
        received=pc.coalesce(rows["received"], rows["timestamp"]).to_numpy(),
        dwell_ms=rows["dwell_ms"].to_numpy().astype(np.float64),
        user=rows["who"].to_numpy(),
        feedback=feedback,
        item=pc.list_flatten(rows["items"]),
    )


def _recommendations(rows: pa.Table) -> Recommendations:
    return Recommendations(
        log=rows["log"].to_numpy(),
        number=rows["number"].to_numpy(),
        timestamp=rows["timestamp"].to_numpy(),
        user=rows["who"].to_numpy(),
        arm=pc.fill_null(rows["arm"], "").to_numpy(),
        policy=pc.fill_null(rows["policy"], "").to_numpy(),
    )


def _user_ids(rows: pa.Table, where: str) -> pa.ChunkedArray:
    numbers, texts = rows["user_number"], rows["user"]
    if numbers.null_count < len(numbers) and texts.null_count < len(texts):
        raise UserError(f"{where} and others: found ids of users that are whole numbers and text; expected one type")
    return texts if texts.null_count < len(texts) else numbers


def _read_log(folder: str, log: int, about: About) -> tuple[pa.Table, Assignment]:
    """Return the rows of users in one log, numbered from the current assignment on, and the assignment."""
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
    number = rows["number"].to_numpy()
    since = assignment.stages[0].number if assignment.stages else 0
    rows = rows.set_column(0, "number", pa.array(number - since))
    rows = rows.append_column("untouched", pa.array(number < first_canary.get(assignment.seed, since)))
    return rows.append_column("log", pa.array(np.full(len(number), log))), assignment
