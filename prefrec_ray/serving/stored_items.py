"""The items beside the log, which `prepare` takes for those of the log: all that the main arm ever had."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import ITEMS
from prefrec_ray.mdp.items import ItemTable


def stored_items(folder: str, width: int) -> ItemTable | None:
    """The items in `folder`, None before the first are written.

    Raises `UserError` for a file that cannot be read, and where embeddings there are not of `width` numbers.
    """
    file = storage.join(folder, ITEMS)
    if not storage.exists(file):
        return None
    items = ItemTable.load(file)
    found = items.embeddings.shape[1]
    if found != width:
        raise UserError(
            f"{file}: embeddings of {found} numbers, those of the policy are of {width}; expected another state folder"
        )
    return items


def save_items(folder: str, items: ItemTable) -> None:
    """Writes `items`, and of those in `folder` the ones that they lack: rows of the log are about these too.

    Raises `UserError` as `stored_items` does.
    """
    ids, embeddings = items.ids, items.embeddings
    before = stored_items(folder, embeddings.shape[1])
    if before is not None:
        gone = items.find(before.ids) < 0
        ids = np.concatenate([ids, before.ids[gone]])
        embeddings = np.concatenate([embeddings, before.embeddings[gone]])
    sink = pa.BufferOutputStream()
    pq.write_table(ItemTable(ids, embeddings).to_table(), sink, compression="none", write_page_checksum=True)
    storage.write_bytes(storage.join(folder, ITEMS), sink.getvalue().to_pybytes())
