"""File of items next to the log, for `prepare`: all items that the main arm ever had."""

from __future__ import annotations

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import ITEMS
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.storage.parquet import read_sealed, seal_parquet


def stored_items(folder: str, width: int) -> ItemTable | None:
    """Return the items in `folder`, or None if no file is written yet.

    Raises `UserError` for a file that cannot be read, and for embeddings with another length than `width`.
    """
    file = storage.join(folder, ITEMS)
    if not storage.exists(file):
        return None
    items = ItemTable.from_table(read_sealed(file), file)
    found = items.embeddings.shape[1]
    if found != width:
        raise UserError(
            f"{file}: found embeddings of {found} numbers; expected {width} as in the policy, or another state folder"
        )
    return items


def save_items(folder: str, items: ItemTable) -> None:
    """Write `items` and those earlier items in `folder` to which rows of the log refer.

    Raises `UserError` as `stored_items` does.
    """
    ids, embeddings = items.ids, items.embeddings
    before = stored_items(folder, embeddings.shape[1])
    if before is not None:
        gone = items.find(before.ids) < 0
        ids = np.concatenate([ids, before.ids[gone]])
        embeddings = np.concatenate([embeddings, before.embeddings[gone]])
    content = seal_parquet(ItemTable(ids, embeddings).to_table(), compression="none")
    storage.write_bytes(storage.join(folder, ITEMS), content)
