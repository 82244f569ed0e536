"""Whole pages from the impressions of a data set and the items that users did not examine, which are in other files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.ids import changes
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.settings import SPLITS


@dataclass(frozen=True, eq=False)
class WholePages:
    """All T items of pages with N impressions, page by page in order.

    Values of the impressions become values of all items by `spread`: those of unexamined items are taken from the
    first impression of the page, or from `others`, the table of the unexamined items.
    """

    of: np.ndarray  # int64 [T], the item's impression, or the first one of its page
    examined: np.ndarray  # bool [T]
    others: pa.Table  # [T - N]

    @classmethod
    def from_tables(cls, requests: pa.Table, others: pa.Table, items: ItemTable) -> WholePages:
        """Insert `others` into the pages of `requests`. Users without impressions and unknown items are left out."""
        pages = Pages.from_table(requests)
        names = requests["user_id"].take(pa.array(pages.first[pages.of_user])).combine_chunks()
        found = pc.index_in(others["user_id"], names)
        others, user = others.filter(found.is_valid()), found.drop_null().to_numpy().astype(np.int64)
        page, place = pages.of_user[user] + others["step"].to_numpy(), others["place"].to_numpy().astype(np.int64)
        kept = items.find(others["item_id"].to_numpy(zero_copy_only=False)) >= 0
        left_out: np.ndarray = np.cumsum(~kept) - ~kept  # before each row, from here on of the same page
        place -= left_out - np.maximum.accumulate(np.where(changes(page), left_out, 0))
        page, place, others = page[kept], place[kept], others.filter(pa.array(kept))
        total = pages.sizes + np.bincount(page, minlength=len(pages.first))
        at = (np.cumsum(total) - total)[page] + place
        examined, of = np.ones(int(total.sum()), bool), np.empty(int(total.sum()), np.int64)
        examined[at] = False
        of[examined], of[at] = np.arange(len(requests)), pages.first[page]
        return cls(of, examined, others)

    def spread(self, values: np.ndarray, others: np.ndarray | float | None = None) -> np.ndarray:
        """Return `values` [N, ...] for all items, [T, ...]; `others`: values of the unexamined items."""
        every: np.ndarray = values[self.of]
        if others is not None:
            every[~self.examined] = others
        return every


def unexamined_items(dataset: PreparedDataset, file: str, split: str) -> pa.Table | None:
    """Return the unexamined items of a split for a `file` of impressions, by user, page and place; None: no file."""
    path = dataset.path("unexamined", file.rsplit("/", 1)[-1])
    if not dataset.metadata.dropped.get("unexamined") or not storage.exists(path):
        return None
    table = dataset.read(path)
    return table.filter(pc.equal(table["split"], SPLITS.index(split)))
