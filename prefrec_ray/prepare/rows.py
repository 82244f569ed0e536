"""Which rows of a log are requests: rows that break the contract are refused, others dropped, some joined into one.

These rules need whole users: no interaction twice, no item that is unknown. What a single row shows is checked where it
is read (logs/canonical.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.ids import codes, first_rows
from prefrec_ray.logs.contract import Part, Reason, SideFiles, place_of
from prefrec_ray.logs.log import Log
from prefrec_ray.mdp.items import ItemTable

DUPLICATES, UNKNOWN_ITEMS = REASONS = ("duplicates", "unknown_items")


@dataclass(frozen=True)
class RowRules:
    """How the rows of whole users, sorted by (user, timestamp, order), become requests.

    Rows that break the contract go to `side`; those that are dropped without blame are counted.
    """

    side: SideFiles
    files: tuple[str, ...] = ()  # of the log, by number
    feedback: tuple[str, ...] = ()
    unique_rows: bool = False  # a row that equals an earlier one breaks the contract
    one_request_a_moment: bool = False  # join the rows of one user and time
    known_items: list[ray.ObjectRef] | None = None  # holds the item ids (pa.Array) that may occur; None: any
    refuse_unknown: bool = False  # a row of another item breaks the contract; else it is dropped

    @classmethod
    def of(cls, log: Log, side: SideFiles, items: ItemTable | None) -> RowRules:
        """The rules of `log`: with `items`, those of another data set, rows of other items are dropped."""
        known = None
        if items is not None:
            known = pa.array(items.ids)
        elif log.items is not None:
            known = log.items["item_id"].combine_chunks()
        return cls(
            side,
            log.files,
            log.feedback,
            log.unique_rows,
            log.one_request_a_moment,
            known_items=None if known is None else [ray.put(known)],
            refuse_unknown=items is None,
        )

    def __call__(self, rows: pa.Table, bucket: int) -> tuple[pa.Table, dict[str, int]]:
        """The requests of a bucket, without the column `row_hash`; and how many rows were dropped, by the reason."""
        dropped = dict.fromkeys(REASONS, 0)
        with self.side.part(f"bucket-{bucket:05d}") as part:
            if self.unique_rows:
                expected = "each interaction once (source.duplicates: keep allows more)"
                rows = self._refuse(rows, equal_rows(rows), part, "", "the same as an earlier row", expected)
            if "row_hash" in rows.column_names:
                rows, dropped[DUPLICATES] = _without(repeated(rows), rows.drop_columns(["row_hash"]))
            if self.known_items is not None:
                (known,) = ray.get(self.known_items)
                unknown = ~pc.is_in(rows["item_id"], known).to_numpy()
                if self.refuse_unknown:
                    expected = f"an item of the item table ({len(known):,} items)"
                    rows = self._refuse(rows, unknown, part, "item_id", "", expected)
                else:
                    rows, dropped[UNKNOWN_ITEMS] = _without(unknown, rows)
        return (joined(rows, self.feedback) if self.one_request_a_moment else rows), dropped

    def _refuse(self, rows: pa.Table, bad: np.ndarray, part: Part, column: str, found: str, expected: str) -> pa.Table:
        if not bad.any():
            return rows
        refused = rows.filter(pa.array(bad)).sort_by("order")
        number, row = place_of(refused["order"].to_numpy())
        for of_file in np.unique(number):
            of_rows = refused.filter(pa.array(number == of_file)).to_pylist()
            values = [values.get(column) for values in of_rows]
            first = Reason(
                column=column,
                expected=expected,
                rows=len(of_rows),
                number=int(of_file),
                file=self.files[of_file],
                row=int(row[number == of_file][0]),
                found=found or f"found {values[0]!r}",
            )
            part.add(first, row[number == of_file], values, of_rows)
        return rows.filter(pa.array(~bad))


def _without(lost: np.ndarray, rows: pa.Table) -> tuple[pa.Table, int]:
    count = int(lost.sum())
    return (rows.filter(pa.array(~lost)) if count else rows), count


def equal_rows(rows: pa.Table) -> np.ndarray:
    """Whether an earlier row is equal in all columns but `order`, bool [N]; equal users and times stand together."""
    same = np.zeros(rows.num_rows, dtype=bool)
    if rows.num_rows > 1:
        pairs = [pc.equal(rows[name][1:], rows[name][:-1]).to_numpy() for name in ("user_id", "timestamp")]
        same[1:] = pairs[0] & pairs[1]
    candidates = np.flatnonzero(same | np.append(same[1:], False))
    result = np.zeros(rows.num_rows, dtype=bool)
    if len(candidates):
        alike = rows.take(pa.array(candidates))
        keys = [name for name in alike.column_names if name != "order"]
        first = alike.group_by(keys, use_threads=False).aggregate([("order", "min")])["order_min"]
        result[candidates] = ~pc.is_in(alike["order"], first.combine_chunks()).to_numpy()
    return result


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
    user = codes(rows["user_id"])
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
