"""Which rows of a log are requests: repeated rows and strange items are dropped, the rows of one request joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.engagement.sessions import first_rows

DUPLICATES, UNKNOWN_ITEMS = REASONS = ("duplicates", "unknown_items")


@dataclass(frozen=True)
class RowRules:
    """How the rows of whole users, sorted by (user, timestamp, order), become requests."""

    feedback: tuple[str, ...]
    one_request_a_moment: bool  # join the rows of one user and time
    known_items: list[ray.ObjectRef] | None = None  # holds the item ids (pa.Array) that may occur; None: any

    def __call__(self, rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
        """The requests, without the column `row_hash`; and how many rows were dropped, by the reason."""
        dropped = dict.fromkeys(REASONS, 0)
        if "row_hash" in rows.column_names:
            rows, dropped[DUPLICATES] = _without(repeated(rows), rows.drop_columns(["row_hash"]))
        if self.known_items is not None:
            (known,) = ray.get(self.known_items)
            strange = ~pc.is_in(rows["item_id"], known).to_numpy()
            rows, dropped[UNKNOWN_ITEMS] = _without(strange, rows)
        return (joined(rows, self.feedback) if self.one_request_a_moment else rows), dropped


def _without(lost: np.ndarray, rows: pa.Table) -> tuple[pa.Table, int]:
    count = int(lost.sum())
    return (rows.filter(pa.array(~lost)) if count else rows), count


def repeated(rows: pa.Table) -> np.ndarray:
    """Whether an earlier row has the same `row_hash`, user and time, bool [N]."""
    names = ("row_hash", "user_id", "timestamp")
    same = np.ones(rows.num_rows, dtype=bool)
    order = rows["row_hash"].to_numpy().argsort(kind="stable")
    for name in names:
        values = rows[name].to_numpy()[order]
        same[1:] &= values[1:] == values[:-1]
    same[:1] = False
    result = np.zeros(rows.num_rows, dtype=bool)
    result[order[same]] = True
    return result


def joined(rows: pa.Table, feedback: tuple[str, ...]) -> pa.Table:
    """One row for all rows of a user and time.

    Its item is the first: what was put on top, whatever the user did. Feedback is the mean over the items, dwell the
    sum of what is known.
    """
    user = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    changes = np.zeros(rows.num_rows, dtype=bool)
    for key in (user, rows["timestamp"].to_numpy()):
        changes[first_rows(key)] = True
    starts = np.flatnonzero(changes)
    sizes = np.diff(np.append(starts, rows.num_rows))
    result = rows.take(pa.array(starts))
    for name in feedback:
        mean = np.add.reduceat(rows[name].to_numpy().astype(np.float64), starts) / sizes if len(starts) else starts
        result = _with(result, name, mean.astype(np.float32))
    if "dwell_ms" in rows.column_names and len(starts):
        dwell = rows["dwell_ms"].to_numpy()
        known = np.add.reduceat((~np.isnan(dwell)).astype(np.int64), starts)
        total = np.add.reduceat(np.nan_to_num(dwell), starts)
        result = _with(result, "dwell_ms", np.where(known > 0, total, np.nan))
    return result


def _with(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))
