"""Titles and pictures of items, read from policies and data sets and stored in the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable

#: Larger pictures would make the page too large to send.
MOST_BYTES = 256 * 1024
#: Kinds of pictures that browsers show, by their first bytes; other files are not put on a page.
KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}

ItemId = int | str


@dataclass(frozen=True)
class CatalogueItem:
    """An item of a page. `title`: the title, or the id without one; `picture`: a data URI, or empty."""

    title: str
    picture: str = ""


def named_items(uris: Iterable[str], ids: Sequence[ItemId]) -> dict[ItemId, CatalogueItem]:
    """Return the `ids` with a title or picture in an items.parquet in the folders `uris` (policies, data sets)."""
    items: dict[ItemId, CatalogueItem] = {}
    for uri in uris:
        missing = [item for item in dict.fromkeys(ids) if item not in items]
        file = storage.join(uri, "items.parquet")
        if missing and storage.exists(file):
            items |= _from_table(file, missing)
    return items


def named(item_id: ItemId, items: Mapping[ItemId, CatalogueItem]) -> CatalogueItem:
    """Return the item with its title, or with its id if it has none."""
    return items.get(item_id, CatalogueItem(f"item {item_id}"))


def _from_table(file: str, ids: Sequence[ItemId]) -> dict[ItemId, CatalogueItem]:
    try:
        table = ItemTable.load(file)
        rows = table.find(np.array(ids))
    except UserError:  # ids of another kind, or damaged: a page without titles is still a page
        return {}
    if table.about is None:
        return {}
    known = [(item, row) for item, row in zip(ids, rows.tolist(), strict=True) if row >= 0]
    about = table.about.take([row for _, row in known]).to_pylist()
    return {item: _item(item, texts) for (item, _), texts in zip(known, about, strict=True) if any(texts.values())}


def _item(item: ItemId, texts: Mapping[str, str | None]) -> CatalogueItem:
    return CatalogueItem(texts.get("title") or str(item), picture(image) if (image := texts.get("image")) else "")


def picture(uri: str) -> str:
    """Return the picture at a path or URI as a data URI; empty if it is missing, too large, or another kind of file.

    Only `storage` opens it: no picture is fetched by http.
    """
    try:
        system, path = storage.filesystem(uri)
        if (system.get_file_info(path).size or 0) > MOST_BYTES:
            return ""
        content = storage.read_bytes(uri)
    except (UserError, OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    kinds = [kind for opening, kind in KINDS.items() if content.startswith(opening)]
    return f"data:image/{kinds[0]};base64,{base64.b64encode(content).decode('ascii')}" if kinds else ""
