"""The part of a log's contract that only whole users show: no interaction twice, no item that the table lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.logs.contract import Part, Reason, SideFiles, place_of


@dataclass(frozen=True)
class RowContract:
    """Checks the rows of a bucket, sorted by (user, timestamp, order); those that break the contract go to `side`."""

    side: SideFiles
    files: tuple[str, ...]  # of the log, by number
    unique_rows: bool
    known_items: list[ray.ObjectRef] | None  # holds the ids (pa.Array) of the log's item table

    def __call__(self, rows: pa.Table, bucket: int) -> pa.Table:
        """The rows that keep the contract."""
        with self.side.part(f"bucket-{bucket:05d}") as part:
            if self.unique_rows:
                expected = "each interaction once (source.duplicates: keep allows more)"
                rows = self._refuse(rows, equal_rows(rows), part, "", "the same as an earlier row", expected)
            if self.known_items is not None:
                (known,) = ray.get(self.known_items)
                strange = ~pc.is_in(rows["item_id"], known).to_numpy()
                expected = f"an item of the item table ({len(known):,} items)"
                rows = self._refuse(rows, strange, part, "item_id", "", expected)
        return rows

    def _refuse(self, rows: pa.Table, bad: np.ndarray, part: Part, column: str, found: str, expected: str) -> pa.Table:
        if not bad.any():
            return rows
        refused = rows.filter(pa.array(bad)).sort_by("order")
        number, row = place_of(refused["order"].to_numpy())
        for of_file in np.unique(number):
            mine = refused.filter(pa.array(number == of_file)).to_pylist()
            values = [one.get(column) for one in mine]
            first = Reason(
                column=column,
                expected=expected,
                rows=len(mine),
                number=int(of_file),
                file=self.files[of_file],
                row=int(row[number == of_file][0]),
                found=found or f"found {values[0]!r}",
            )
            part.add(first, row[number == of_file], values, mine)
        return rows.filter(pa.array(~bad))


def equal_rows(rows: pa.Table) -> np.ndarray:
    """Whether an earlier row is equal in all columns but `order`, bool [N]; equal users and times stand together."""
    same = np.zeros(rows.num_rows, dtype=bool)
    if rows.num_rows > 1:
        pairs = [pc.equal(rows[name][1:], rows[name][:-1]).to_numpy() for name in ("user_id", "timestamp")]
        same[1:] = pairs[0] & pairs[1]
    candidates = np.flatnonzero(same | np.append(same[1:], False))
    result = np.zeros(rows.num_rows, dtype=bool)
    if len(candidates):
        found = rows.take(pa.array(candidates))
        keys = [name for name in found.column_names if name != "order"]
        first = found.group_by(keys, use_threads=False).aggregate([("order", "min")])["order_min"]
        result[candidates] = ~pc.is_in(found["order"], first.combine_chunks()).to_numpy()
    return result
