"""Titles and pictures of items for annotators, from a file; items without a title have a code."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.storage.parquet import read_parquet

#: Endings of pictures, and their media types; no SVG, which may hold scripts.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
_LONGEST = 120


@dataclass(frozen=True)
class LabelItem:
    """title: untrusted text. picture: the name of a file, or empty."""

    title: str
    picture: str = ""


class Items:
    """The items of the file, by id, and the folder of their pictures; empty without a file."""

    def __init__(self, file: str | None, code: Callable[[object], str]) -> None:
        self._items = {} if file is None else _read(file)
        self._folder = Path(storage.absolute(file)).parent if file else None
        self._code = code

    def __call__(self, item: Any) -> LabelItem:
        """Return the title and picture of an item."""
        return self._items.get(str(item)) or LabelItem(f"Item {self._code(item)}")

    def picture(self, name: str) -> tuple[Path, str] | None:
        """Return the file and media type of a picture; None for any other name."""
        if self._folder is None or name not in {item.picture for item in self._items.values()} - {""}:
            return None
        path = self._folder / name
        return (path, PICTURES[path.suffix.lower()]) if path.is_file() else None


def _read(file: str) -> dict[str, LabelItem]:
    """Return items by id as text. Raises `UserError`: a missing file or column, a repeated id, a bad picture."""
    items: dict[str, LabelItem] = {}
    for number, row in enumerate(_rows(file), 1):
        where = f"{file}: row {number}"
        for name in ("item_id", "title"):
            if name not in row:
                raise UserError(f"{file}: column '{name}' is missing; found {', '.join(map(str, row))}")
        key = "" if row["item_id"] is None else str(row["item_id"])
        picture = str(row.get("picture") or "")
        if not key or key in items:
            raise UserError(f"{where}: item_id {key!r}; expected an id that is in no row above")
        if picture and (posixpath.basename(picture) != picture or Path(picture).suffix.lower() not in PICTURES):
            raise UserError(
                f"{where}: picture {picture!r}; expected the name of a file in its folder ({', '.join(PICTURES)})"
            )
        title = " ".join(str(row["title"] or "").split()) or "(no title)"
        items[key] = LabelItem(title if len(title) <= _LONGEST else f"{title[:_LONGEST]}…", picture)
    return items


def _rows(file: str) -> list[dict[str, Any]]:
    if file.endswith(".parquet"):
        return read_parquet(file).to_pylist()
    text = storage.read_text(file).removeprefix("\ufeff")
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise UserError(f"{file}: not CSV ({error})") from error
