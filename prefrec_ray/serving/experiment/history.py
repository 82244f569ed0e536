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
    """Recommendations and feedback of all logs, and the shares of arms.

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

    @property
    def until(self) -> int:
        """Return the time of the last event, at most the time at which the server received it."""
        return int(np.minimum(self.timestamp, self.received).max())


def read_events(folders: Sequence[str], columns: pa.Schema) -> Events:
    """Read logs. Raises `UserError` if they have no rows of users, or if their arms differ now."""
    tables, assignments = zip(*(_read_log(folder, columns) for folder in folders), strict=True)
    rows = pa.concat_tables(tables)
    if not rows.num_rows:
        raise UserError(f"{', '.join(folders)}: no events yet; expected recommendations and feedback")
    for folder, assignment in zip(folders, assignments, strict=True):
        if assignment != assignments[0]:
            raise UserError(f"{folder}: found arms {assignment}; expected {assignments[0]} as in {folders[0]}")
    kind = rows["kind"].to_numpy()
    return Events(
        number=rows["number"].to_numpy(),
        untouched=rows["untouched"].to_numpy(),
        timestamp=rows["timestamp"].to_numpy(),
        received=pc.coalesce(rows["received"], rows["timestamp"]).to_numpy(),
        dwell_ms=rows["dwell_ms"].to_numpy().astype(np.float64),
        request=(kind == Kind.FEEDBACK) & pc.fill_null(rows["known"], False).to_numpy(),
        user=codes(rows["who"]),
        arm=pc.fill_null(rows["arm"], "").to_numpy(),
        policy=pc.fill_null(rows["policy"], "").to_numpy(),
        recommended=kind == Kind.RECOMMENDED,
        shares=assignments[0][1],
    )


def _read_log(folder: str, columns: pa.Schema) -> tuple[pa.Table, tuple[int, dict[str, float]]]:
    """Return the rows of users in one log, and the seed and the shares of the arms now."""
    tables = [_EMPTY]
    assignment: tuple[int, dict[str, float]] = 0, {}
    since = 0  # the first row under this assignment
    first_canary: dict[int, int] = {}  # by seed, with any shares
    for table in read_tables(list_segments(folder), columns):
        kind = table["kind"].to_numpy()
        for row in table.filter(pa.array(kind == Kind.ARMS)).select(["number", "note"]).to_pylist():
            note = json.loads(row["note"])
            # Logs of earlier versions may have shadows: policies that drew items and did not show them.
            shares = {one["arm"]: one["share"] for one in note["arms"] if not one.get("shadow")}
            if (note["seed"], shares) != assignment:
                assignment, since = (note["seed"], shares), row["number"]
            if len(shares) > 1:
                first_canary.setdefault(note["seed"], row["number"])
        kept = table.filter(pa.array(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))))
        who = pc.coalesce(kept["user"], kept["user_number"].cast(pa.string()))
        tables.append(kept.select([*_COLUMNS]).append_column("who", who))
    rows = pa.concat_tables(tables).combine_chunks()
    number = rows["number"].to_numpy()
    rows = rows.append_column("untouched", pa.array(number < first_canary.get(assignment[0], since)))
    return rows.set_column(0, "number", pa.array(number - since)), assignment
