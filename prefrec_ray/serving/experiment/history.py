"""Feedback and arms of users, read from the logs of servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.events.format import COMMIT, Kind, schema
from prefrec_ray.logs.events.segments import list_segments, read_tables


@dataclass(frozen=True)
class ServedSessions:
    """Sessions of all users; row number of the first impression, int64 [M], and whether a session is `untouched`."""

    table: SessionTable
    number: np.ndarray
    untouched: np.ndarray


@dataclass(frozen=True)
class Events:
    """Columns of recommendations and feedback of all logs, the shares of arms, and overlaps of shadows.

    In each log, row 0 is the first row under the current assignment of users. Earlier rows have negative numbers.
    """

    number: np.ndarray  # int64 [N]
    untouched: (
        np.ndarray
    )  # bool [N]: before users were dealt to canaries by this seed, which deals the same users again
    timestamp: np.ndarray  # int64 [N], ms
    received: np.ndarray  # int64 [N], ms, by the server's clock
    dwell_ms: np.ndarray  # float64 [N], NaN if unknown
    request: np.ndarray  # bool [N]: feedback on a known item
    user: np.ndarray  # int64 [N]
    arm: np.ndarray  # str [N]
    policy: np.ndarray  # str [N]
    recommended: np.ndarray  # bool [N]
    shares: dict[str, float]  # of the arms now
    overlaps: list[tuple[str, float]]  # shadow, share of its items that were also recommended

    @property
    def until(self) -> int:
        """Return the time of the last event, at most the time at which the server received it."""
        return int(np.minimum(self.timestamp, self.received).max())

    def sessions(self, gap_ms: int) -> ServedSessions:
        """Return the sessions of all users."""
        rows = np.flatnonzero(self.request)
        rows = rows[np.lexsort((self.number[rows], self.timestamp[rows], self.user[rows]))]
        user, timestamp = self.user[rows], self.timestamp[rows]
        numbers = session_numbers(user, timestamp, gap_ms)
        table = session_table(user, timestamp, numbers, self.dwell_ms[rows])
        begin = rows[table.first_row]
        return ServedSessions(table, self.number[begin], self.untouched[begin])

    def arms(self) -> dict[int, str]:
        """Return the arm of each user with a recommendation from row 0 on. Feedback may belong to an earlier arm."""
        later = np.flatnonzero(self.recommended & (self.number >= 0))
        user, first = np.unique(self.user[later], return_index=True)
        return dict(zip(user.tolist(), self.arm[later[first]].tolist(), strict=True))

    def policies(self) -> dict[str, list[str]]:
        """Return the digests of each arm's policies from row 0 on."""
        later = (self.number >= 0) & (self.policy != "")
        pairs = sorted(set(zip(self.arm[later].tolist(), self.policy[later].tolist(), strict=True)))
        return {arm: [policy for one, policy in pairs if one == arm] for arm in dict(pairs)}

    def overlap(self) -> dict[str, float]:
        """Return for each shadow the mean share of its items that were also recommended, from row 0 on."""
        names = dict(self.overlaps)
        return {name: float(np.mean([share for one, share in self.overlaps if one == name])) for name in names}


def read_events(folders: Sequence[str], columns: pa.Schema) -> Events:
    """Read logs. Raises `UserError` if they have no rows of users, or if their arms differ now."""
    logs = [_Log.read(folder, columns) for folder in folders]
    if not any(log.rows.num_rows for log in logs):
        raise UserError(f"{', '.join(folders)}: no events yet; expected recommendations and feedback")
    for folder, log in zip(folders, logs, strict=True):
        if log.dealt != logs[0].dealt:
            raise UserError(f"{folder}: found arms {log.dealt}; expected {logs[0].dealt} as in {folders[0]}")
    rows = pa.concat_tables([log.rows for log in logs])
    known = pc.fill_null(rows["known"], False).to_numpy()
    return Events(
        number=np.concatenate([log.rows["number"].to_numpy() - log.since for log in logs]),
        untouched=np.concatenate([log.rows["number"].to_numpy() < log.touched for log in logs]),
        timestamp=rows["timestamp"].to_numpy(),
        received=pc.coalesce(rows["received"], rows["timestamp"]).to_numpy(),
        dwell_ms=rows["dwell_ms"].to_numpy().astype(np.float64),
        request=(rows["kind"].to_numpy() == Kind.FEEDBACK) & known,
        user=codes(rows["who"]),
        arm=pc.fill_null(rows["arm"], "").to_numpy(),
        policy=pc.fill_null(rows["policy"], "").to_numpy(),
        recommended=rows["kind"].to_numpy() == Kind.RECOMMENDED,
        shares=logs[0].dealt[1],
        overlaps=[(name, share) for log in logs for row, name, share in log.overlaps if row >= log.since],
    )


@dataclass(frozen=True)
class _Log:
    """The rows of users in one log, and its arms."""

    rows: pa.Table
    dealt: tuple[int, dict[str, float]]  # the seed and the shares of the arms now
    since: int  # the first row under this assignment
    touched: int  # the first row with canaries under this seed, with any shares
    overlaps: list[tuple[int, str, float]]  # row, shadow, share of its items that were also recommended

    @classmethod
    def read(cls, folder: str, columns: pa.Schema) -> _Log:
        """Read the log in `folder`."""
        tables, overlaps = [], []
        shown: dict[str, set[Any]] = {}
        dealt: tuple[int, dict[str, float]] = 0, {}
        since = 0
        first_canary: dict[int, int] = {}  # by seed
        for table in read_tables(list_segments(folder), columns):
            kind = table["kind"].to_numpy()
            for row in table.filter(pa.array(kind == Kind.ARMS)).select(["number", "note"]).to_pylist():
                note = json.loads(row["note"])
                shares = {one["arm"]: one["share"] for one in note["arms"] if not one["shadow"]}
                if (note["seed"], shares) != dealt:
                    dealt, since = (note["seed"], shares), row["number"]
                if len(shares) > 1:
                    first_canary.setdefault(note["seed"], row["number"])
            overlaps += _overlaps(table, kind, shown)
            kept = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))))
            who = pc.coalesce(kept["user"], kept["user_number"].cast(pa.string()))
            tables.append(kept.select([*_COLUMNS]).append_column("who", who))
        touched = first_canary.get(dealt[0], since)
        return cls(pa.concat_tables([_EMPTY, *tables]).combine_chunks(), dealt, since, touched, overlaps)


_COLUMNS = ("number", "kind", "timestamp", "received", "arm", "policy", "dwell_ms", "known")
_EMPTY = schema(pa.int64()).empty_table().select([*_COLUMNS]).append_column("who", pa.array([], pa.string()))


def _overlaps(table: pa.Table, kind: np.ndarray, shown: dict[str, set[Any]]) -> list[tuple[int, str, float]]:
    """Return row number, name, and share of items that were also recommended, for each row of a shadow.

    `shown` holds the last recommendations of earlier tables; the recommendations of this table are added.
    """
    if (kind == Kind.SHADOWED).any():
        rows = table.select(["number", "kind", "event_id", "arm", "items"]).to_pylist()
        shown |= {row["event_id"]: set(row["items"]) for row in rows if row["kind"] == Kind.RECOMMENDED}
        overlaps = [
            (row["number"], row["arm"], len(shown[row["event_id"]] & set(row["items"])) / len(row["items"]))
            for row in rows
            if row["kind"] == Kind.SHADOWED and row["items"]
        ]
    else:
        last = table.take(pa.array(np.flatnonzero(kind == Kind.RECOMMENDED)[-COMMIT:]))
        shown |= zip(last["event_id"].to_pylist(), map(set, last["items"].to_pylist()), strict=True)
        overlaps = []
    for event in list(shown)[:-COMMIT]:
        del shown[event]
    return overlaps
