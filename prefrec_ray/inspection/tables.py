"""Tables of users and items next to a log: their ids, features, embeddings and titles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import ID, ITEM, USER, Column, csv_format, flat_columns, profile, sample
from prefrec_ray.logs.schemas import schema
from prefrec_ray.logs.tables import MAX_CATEGORIES, SEPARATOR
from prefrec_ray.logs.values import is_list, is_text

_TITLE = ("title", "name", "headline", "caption", "label")
#: Numbers that are known before an impression, unlike counts and means of ratings, which contain the future.
_NUMBERS = (
    *("year", "release", "released", "decade", "duration", "length", "runtime", "minutes", "pages", "price", "age"),
)
_MAX_CATEGORIES = 50  # of a column of single categories


def find_tables(files: Sequence[str], source: Mapping[str, Any], log: pa.Table) -> dict[str, dict[str, Any]]:
    """Return the keys `users` and `items` of a source of kind `files` that has the other keys in `source`.

    They are the first table of each kind among `files` with ids of the type in `log`, a sample.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        form = csv_format(file)
        try:
            table = sample([file], flat_columns(file, form), form)
        except UserError:
            continue  # empty
        columns = profile(table)
        user = _key(columns, table, USER, log.schema.field(source["user"]).type)
        item = _key(columns, table, ITEM, log.schema.field(source["item"]).type)
        features = [c.name for c in columns if c.name != user and _is_category(c)]
        if user and features:
            found.setdefault("users", {"path": file, "id": user, "features": features})
        about = _of_items([c for c in columns if c.name != item], table, schema(file, form)) if item else {}
        if about:
            found.setdefault("items", {"path": file, "id": item, **about})
    return dict(sorted(found.items(), reverse=True))  # users first


def _of_items(columns: Sequence[Column], table: pa.Table, kinds: pa.Schema) -> dict[str, Any]:
    """Return the keys `title`, and `embedding` or `features`, of a table of items."""
    title = next((c for c in columns if c.is_text and c.has(_TITLE) and 2 * c.distinct > len(table)), None)
    about = {} if title is None else {"title": title.name}
    embedding = [kind.name for kind in kinds if is_list(kind.type) and pa.types.is_floating(kind.type.value_type)]
    features = [c.name for c in columns if c is not title and _is_feature(c, table)]
    features += [kind.name for kind in kinds if is_list(kind.type) and is_text(kind.type.value_type)]
    if embedding:
        return {"embedding": embedding[0], **about}
    return {**about, **({"features": features} if features else {})}


def _key(columns: Sequence[Column], table: pa.Table, vocabulary: Sequence[str], kind: pa.DataType) -> str | None:
    """Return the column whose ids are unique and of the log's type, or None."""
    for column in columns:
        same = pa.types.is_integer(column.kind) == pa.types.is_integer(kind)
        if column.has(vocabulary) and column.distinct == len(table) and same:
            return column.name
    return None


def _is_category(column: Column) -> bool:
    return 2 <= column.distinct <= _MAX_CATEGORIES and not pa.types.is_floating(column.kind)


def _is_feature(column: Column, table: pa.Table) -> bool:
    if column.distinct < 2 or column.has(ID):
        return False
    if column.is_number and column.has(_NUMBERS):
        return True
    return _is_category(column) or (column.is_text and _has_lists(table[column.name]))


def _has_lists(column: pa.ChunkedArray) -> bool:
    """Return whether cells are lists such as A|B|C with few categories in all."""
    known = column.drop_null().cast(pa.string())
    if not pc.any(pc.match_substring(known, SEPARATOR)).as_py():
        return False
    categories = pc.count_distinct(pc.split_pattern(known, SEPARATOR).combine_chunks().flatten()).as_py()
    return 2 <= categories <= min(MAX_CATEGORIES, len(known) // 2)


def described(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each table of a source: its file and its columns."""
    for name in ("users", "items"):
        table = source.get(name)
        if table:
            parts = [f"id {table['id']}"]
            parts += [f"{key} {table[key]}" for key in ("title", "embedding") if key in table]
            parts += [f"features {', '.join(table['features'])}"] if "features" in table else []
            yield f"table of {name}: {table['path'].rpartition('/')[2]} ({'; '.join(parts)})"
