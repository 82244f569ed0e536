"""Rows and arms of users, read from the logs of servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.events.format import Kind, schema
from prefrec_ray.logs.events.segments import list_segments, read_tables

_COLUMNS = ("number", "kind", "timestamp", "received", "arm", "policy", "dwell_ms", "known")
_EMPTY = schema(pa.int64()).empty_table().select([*_COLUMNS]).append_column("who", pa.array([], pa.string()))


@dataclass(frozen=True)
class Events:
    """Recommendations and feedback of all logs, the shares of arms, and overlaps of shadows.

    In each log, row 0 is the first row under the current assignment of users. Earlier rows have negative numbers.
    """

    number: np.ndarray  # int64 [N]
    untouched: np.ndarray  # bool [N]: before this seed, which deals the same users again, had a canary
    timestamp: np.ndarray  # int64 [N], ms
    received: np.ndarray  # int64 [N], ms, by the server's clock
    dwell_ms: np.ndarray  # float64 [N], NaN if unknown
    request: np.ndarray  # bool [N]: feedback on a known item
    user: np.ndarray  # int64 [N], from 0 on
    arm: np.ndarray  # str [N]
    policy: np.ndarray  # str [N]
    recommended: np.ndarray  # bool [N]
    shares: dict[str, float]  # of the arms now
    overlaps: list[tuple[str, float]]  # shadow, share of its items that were also recommended, from row 0 on

    @property
    def until(self) -> int:
        """Return the time of the last event, at most the time at which the server received it."""
        return int(np.minimum(self.timestamp, self.received).max())


@dataclass(frozen=True)
class _Log:
    """The rows of users in one log, and its arms."""

    rows: pa.Table
    dealt: tuple[int, dict[str, float]]  # the seed and the shares of the arms now
    since: int  # the first row under this assignment
    touched: int  # the first row with canaries under this seed, with any shares
    overlaps: list[tuple[int, str, float]]  # row, shadow, share of its items that were also recommended


def read_events(folders: Sequence[str], columns: pa.Schema) -> Events:
    """Read logs. Raises `UserError` if they have no rows of users, or if their arms differ now."""
    logs = [_read_log(folder, columns) for folder in folders]
    rows = pa.concat_tables([log.rows for log in logs])
    if not rows.num_rows:
        raise UserError(f"{', '.join(folders)}: no events yet; expected recommendations and feedback")
    for folder, log in zip(folders, logs, strict=True):
        if log.dealt != logs[0].dealt:
            raise UserError(f"{folder}: found arms {log.dealt}; expected {logs[0].dealt} as in {folders[0]}")
    kind = rows["kind"].to_numpy()
    return Events(
        number=np.concatenate([log.rows["number"].to_numpy() - log.since for log in logs]),
        untouched=np.concatenate([log.rows["number"].to_numpy() < log.touched for log in logs]),
        timestamp=rows["timestamp"].to_numpy(),
        received=pc.coalesce(rows["received"], rows["timestamp"]).to_numpy(),
        dwell_ms=rows["dwell_ms"].to_numpy().astype(np.float64),
        request=(kind == Kind.FEEDBACK) & pc.fill_null(rows["known"], False).to_numpy(),
        user=codes(rows["who"]),
        arm=pc.fill_null(rows["arm"], "").to_numpy(),
        policy=pc.fill_null(rows["policy"], "").to_numpy(),
        recommended=kind == Kind.RECOMMENDED,
        shares=logs[0].dealt[1],
        overlaps=[(name, share) for log in logs for row, name, share in log.overlaps if row >= log.since],
    )


def _read_log(folder: str, columns: pa.Schema) -> _Log:
    tables, overlaps = [_EMPTY], []
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
        overlaps += _overlaps(table, kind)
        kept = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))))
        who = pc.coalesce(kept["user"], kept["user_number"].cast(pa.string()))
        tables.append(kept.select([*_COLUMNS]).append_column("who", who))
    touched = first_canary.get(dealt[0], since)
    return _Log(pa.concat_tables(tables).combine_chunks(), dealt, since, touched, overlaps)


def _overlaps(table: pa.Table, kind: np.ndarray) -> list[tuple[int, str, float]]:
    """Return row number, name, and share of items that were also recommended, for each row of a shadow."""
    if not (kind == Kind.SHADOWED).any():
        return []
    rows = table.select(["number", "kind", "event_id", "arm", "items"]).to_pylist()
    shown = {row["event_id"]: set(row["items"]) for row in rows if row["kind"] == Kind.RECOMMENDED}
    return [
        (row["number"], row["arm"], len(shown[row["event_id"]] & set(row["items"])) / len(row["items"]))
        for row in rows
        # A recommendation in the previous table does not count: a table has 65,536 rows, so these are few.
        if row["kind"] == Kind.SHADOWED and row["items"] and row["event_id"] in shown
    ]
