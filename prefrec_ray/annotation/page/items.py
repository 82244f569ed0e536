"""Titles and pictures of items for annotators, from a file; items without a title have a code."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

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
    columns = {name: column.to_pylist() for name, column in _table(file).items()}
    items: dict[str, LabelItem] = {}
    pictures = columns.get("picture") or [None] * len(columns["item_id"])
    for number, (key, title, picture) in enumerate(zip(columns["item_id"], columns["title"], pictures, strict=True), 1):
        where = f"{file}: row {number}"
        if key is None or str(key) in items:
            raise UserError(f"{where}: item_id {key!r}; expected an id that is in no row above")
        picture = str(picture or "")
        if picture and (posixpath.basename(picture) != picture or Path(picture).suffix.lower() not in PICTURES):
            raise UserError(
                f"{where}: picture {picture!r}; expected the name of a file in its folder ({', '.join(PICTURES)})"
            )
        title = " ".join(str(title or "").split()) or "(no title)"
        items[str(key)] = LabelItem(title if len(title) <= _LONGEST else f"{title[:_LONGEST]}…", picture)
    return items


def _table(file: str) -> dict[str, pa.ChunkedArray]:
    if file.endswith(".parquet"):
        table = read_parquet(file)
    else:
        try:
            texts = csv.ConvertOptions(
                column_types={name: pa.string() for name in ("item_id", "title", "picture")},
                strings_can_be_null=True,
                null_values=[""],  # an item may be called NA, and a film Null
            )
            table = csv.read_csv(pa.BufferReader(storage.read_bytes(file)), convert_options=texts)
        except pa.ArrowInvalid as error:
            raise UserError(f"{file}: not CSV ({str(error).splitlines()[0]})") from error
    for name in ("item_id", "title"):
        if name not in table.column_names:
            raise UserError(f"{file}: column '{name}' is missing; found {', '.join(table.column_names)}")
    return {name: table[name] for name in table.column_names}
