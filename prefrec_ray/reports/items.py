"""Titles of items, read from policies and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable

ItemId = int | str


def item_titles(uris: Iterable[str], ids: Sequence[ItemId]) -> dict[ItemId, str]:
    """Return the titles of the `ids` with one in an items.parquet in the folders `uris` (policies, data sets)."""
    titles: dict[ItemId, str] = {}
    for uri in uris:
        missing = [item for item in dict.fromkeys(ids) if item not in titles]
        file = storage.join(uri, "items.parquet")
        if missing and storage.exists(file):
            titles |= _titles_in(file, missing)
    return titles


def title_of(item_id: ItemId, titles: Mapping[ItemId, str]) -> str:
    """Return the title of an item, or its id if it has none."""
    return titles.get(item_id, f"item {item_id}")


def _titles_in(file: str, ids: Sequence[ItemId]) -> dict[ItemId, str]:
    try:
        table = ItemTable.load(file)
        rows = table.find(np.array(ids))
    except UserError:  # ids of another kind, or damaged: a page without titles is still a page
        return {}
    if table.about is None or "title" not in table.about.column_names:
        return {}
    column = table.about["title"]
    found = {item: column[row].as_py() for item, row in zip(ids, rows.tolist(), strict=True) if row >= 0}
    return {item: title for item, title in found.items() if title}
