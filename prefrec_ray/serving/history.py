"""What users did, and which arms they had, from the log of a server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.engagement.sessions import SessionTable, session_numbers, session_table
from prefrec_ray.errors import UserError
from prefrec_ray.events.format import Kind
from prefrec_ray.events.segments import list_segments, read_rows
from prefrec_ray.ids import codes


@dataclass(frozen=True)
class Sessions:
    """The sessions of all users, and the number of the row that began each, int64 [M]."""

    table: SessionTable
    number: np.ndarray


@dataclass(frozen=True)
class Events:
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


def read_events(folder: str, columns: pa.Schema) -> Events:
    """The rows of a log. Raises `UserError` where there are none of users."""
    tables, arms, overlaps = [], [], []
    shown: dict[str, set[Any]] = {}
    for batch in read_rows(list_segments(folder), columns):
        table = pa.Table.from_batches([batch])
        kind = table["kind"].to_numpy()
        for row in table.filter(pa.array(kind == Kind.ARMS)).select(["number", "note"]).to_pylist():
            said = json.loads(row["note"])
            shares = {one["arm"]: one["share"] for one in said["arms"] if not one["shadow"]}
            arms.append((row["number"], said["seed"], shares))
        overlaps += _overlaps(table, kind, shown)
        kept = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))))
        who = pc.coalesce(kept["user"], kept["user_number"].cast(pa.string()))
        tables.append(kept.select([*_COLUMNS]).append_column("who", who))
    rows = pa.concat_tables(tables).combine_chunks() if tables else None
    if rows is None or not rows.num_rows:
        raise UserError(f"{folder}: no events yet; expected recommendations and feedback")
    known = pc.fill_null(rows["known"], False).to_numpy()
    return Events(
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


#: Recommendations of one commit at most: those of its shadows follow them.
_OF_COMMIT = 32


def _overlaps(table: pa.Table, kind: np.ndarray, shown: dict[str, set[Any]]) -> list[tuple[int, str, float]]:
    """Of each row of a shadow: its number, its name, and the share of its items that were shown.

    `shown` holds the last recommendations of the rows before, and then of these.
    """
    if (kind == Kind.SHADOWED).any():
        rows = table.select(["number", "kind", "event_id", "arm", "items"]).to_pylist()
        shown |= {row["event_id"]: set(row["items"]) for row in rows if row["kind"] == Kind.RECOMMENDED}
        found = [
            (row["number"], row["arm"], len(shown[row["event_id"]] & set(row["items"])) / len(row["items"]))
            for row in rows
            if row["kind"] == Kind.SHADOWED and row["items"]
        ]
    else:
        last = table.take(pa.array(np.flatnonzero(kind == Kind.RECOMMENDED)[-_OF_COMMIT:]))
        shown |= zip(last["event_id"].to_pylist(), map(set, last["items"].to_pylist()), strict=True)
        found = []
    for event in list(shown)[:-_OF_COMMIT]:
        del shown[event]
    return found
