"""Conversion of a log's rows to impressions: rules that need all rows of a user (logs/log.py checks single rows)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.errors import UserError
from prefrec_ray.ids import changes, codes, first_rows
from prefrec_ray.logs.contract import BadRows, Part, Place, Side, place_of
from prefrec_ray.logs.log import UNIQUE, Log, LoggedSource, equal_rows, first_files
from prefrec_ray.mdp.items import ItemTable

REASONS = ("duplicates", "in_two_sources", "unknown_items", "unexamined")
DUPLICATES, IN_TWO_SOURCES, UNKNOWN_ITEMS, UNEXAMINED = REASONS


@dataclass(frozen=True)
class RowRules:
    """Rules by which all rows of some users, sorted by (user, timestamp, order), become impressions.

    Rows that break the contract go to `side`; rows that are dropped for other reasons are counted.
    """

    side: Side
    sources: tuple[LoggedSource, ...] = (LoggedSource(),)  # of the log
    feedback: tuple[str, ...] = ()  # of the log
    pages: bool = True  # False: the data set has no pages, and each row is a step
    known_items: list[ray.ObjectRef] | None = None  # the item ids (pa.Array) that may occur; None: any
    refuse_unknown: bool = False  # True if a row of an unknown item breaks the contract, else it is dropped

    @classmethod
    def from_log(cls, log: Log, side: Side, items: ItemTable | None, pages: bool) -> RowRules:
        """Create the rules of `log`. `items`: items of another data set; rows of other items are dropped."""
        known = None
        if items is not None:
            known = pa.array(items.ids)
        elif log.items is not None:
            known = log.items["item_id"].combine_chunks()
        return cls(side, log.sources, log.feedback, pages, None if known is None else [ray.put(known)], items is None)

    def __call__(self, rows: pa.Table, bucket: int) -> tuple[pa.Table, dict[str, int]]:
        """Return a bucket's rows by page, with the page's number `step` (int64), and the dropped rows by reason.

        Rows of items that users did not examine remain, and are not among the dropped rows.
        """
        dropped = dict.fromkeys(REASONS, 0)
        with self.side.part(f"bucket-{bucket:05d}") as part:
            unique = np.array([one.unique_rows for one in self.sources])
            if unique.any():
                source = self._source(rows)
                equal = equal_rows(rows.append_column("split", pa.array(source)))  # no feedback has this name
                bad = equal & unique[source]
                rows = self._refuse(rows, bad, part, "", "the same as an earlier row", UNIQUE)
            if "row_hash" in rows.column_names:
                equal = equal_rows(rows) & pc.is_valid(rows["row_hash"]).to_numpy()
                rows, dropped[DUPLICATES] = _without(equal, rows.drop_columns(["row_hash"]))
            if len(self.sources) > 1:
                rows, dropped[IN_TWO_SOURCES] = _without(in_earlier_source(rows, self._source(rows)), rows)
            if self.known_items is not None:
                (known,) = ray.get(self.known_items)
                if pa.types.is_integer(rows["item_id"].type) != pa.types.is_integer(known.type):
                    found, expected = rows["item_id"].type, known.type
                    raise UserError(f"item ids of the log: found {found}; expected {expected}, as in prepare.like")
                unknown = ~pc.is_in(rows["item_id"], known).to_numpy()
                if self.refuse_unknown:
                    expected = f"an item of the item table ({len(known):,} items)"
                    rows = self._refuse(rows, unknown, part, "item_id", "", expected)
                else:
                    rows, dropped[UNKNOWN_ITEMS] = _without(unknown, rows)
        if not self.pages and "page" in rows.column_names:
            rows = rows.drop_columns([name for name in ("page", "position") if name in rows.column_names])
        by_position = np.array([one.by_position for one in self.sources])
        return in_pages(rows, by_position[self._source(rows)]), dropped

    def all_examined(self, rows: pa.Table) -> np.ndarray:
        """Return a mask of the rows from sources that are `all_examined` (`LoggedSource`), bool [N]."""
        return np.array([one.all_examined for one in self.sources])[self._source(rows)]

    def _source(self, rows: pa.Table) -> np.ndarray:
        """Return the number of the source of each row, int64 [N] from 0."""
        number, _ = place_of(rows["order"].to_numpy())
        return np.searchsorted(first_files(self.sources), number, side="right") - 1

    def _refuse(self, rows: pa.Table, bad: np.ndarray, part: Part, column: str, found: str, expected: str) -> pa.Table:
        if not bad.any():
            return rows
        refused = rows.filter(pa.array(bad)).sort_by("order")
        number, row = place_of(refused["order"].to_numpy())
        files = [file for one in self.sources for file in one.files]
        for of_file in np.unique(number):
            of_rows = refused.filter(pa.array(number == of_file))
            place = Place(files[of_file], int(of_file), rows=row[number == of_file] - 1)
            value = found or f"found {of_rows[column][0].as_py()!r}"
            part.reject(of_rows, BadRows(place, column, np.arange(len(of_rows)), value, expected))
        return rows.filter(pa.array(~bad))


def _without(dropped: np.ndarray, rows: pa.Table) -> tuple[pa.Table, int]:
    count = int(dropped.sum())
    return (rows.filter(pa.array(~dropped)) if count else rows), count


def in_pages(rows: pa.Table, by_position: np.ndarray) -> pa.Table:
    """Return rows, which are sorted by (user, timestamp, order), page by page and with the column `step` (int64).

    Rows of one user and page, one after another, are a page, and get the time of its first row. In rows with the
    mask `by_position` [N], rows of two pages with the same time may alternate; they are sorted into pages, and within a
    page by position. All other rows keep their order. Without a column `page` each row is a page.
    """
    user = codes(rows["user_id"])
    if "page" not in rows.column_names:
        return rows.append_column("step", pa.array(_steps(user, np.ones(len(rows), bool))))
    page, time = codes(rows["page"]), rows["timestamp"].to_numpy()
    moment = np.cumsum(changes(user) | changes(time))
    _, first, of_row = np.unique(moment * (page.max(initial=0) + 1) + page, return_index=True, return_inverse=True)
    order = np.argsort(np.where(by_position, first[of_row], np.arange(len(rows))), kind="stable")
    begins = changes(user[order]) | changes(page[order])
    number = np.cumsum(begins) - 1
    time = time[order][begins][number]
    if "position" in rows.column_names:
        unknown = np.iinfo(np.int32).max
        position = np.where(by_position, rows["position"].fill_null(unknown).to_numpy(), 0)[order]
        order = order[np.lexsort((position, number))]
    rows = rows.take(pa.array(order))
    rows = rows.set_column(rows.column_names.index("timestamp"), "timestamp", pa.array(time))
    return rows.append_column("step", pa.array(_steps(user, begins)))


def _steps(user: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return the number of each row's page in the history of its user; pages begin at the rows `begins` (bool [N])."""
    number = np.cumsum(begins) - 1
    return number - number[first_rows(user)][user]


def in_earlier_source(rows: pa.Table, source: np.ndarray) -> np.ndarray:
    """Return a mask of rows whose user, item and time are also in an earlier source. Sorted by user and time."""
    begins = changes(codes(rows["user_id"])) | changes(rows["timestamp"].to_numpy())
    moment = np.cumsum(begins)
    key = np.stack([moment, codes(rows["item_id"])], axis=1)
    _, group = np.unique(key, axis=0, return_inverse=True)
    first = np.full(len(rows), len(rows))
    np.minimum.at(first, group, source)
    return source > first[group]
