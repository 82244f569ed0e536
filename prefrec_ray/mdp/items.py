"""Items as actions: a table of ids and embeddings, with look-ups by id and by distance to an action."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.ids import places_in_runs
from prefrec_ray.mdp.catalogue import Cells, ItemIndex
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.kinds import CLUSTER, ItemKind, KindNames, clusters
from prefrec_ray.storage.files import check_readable, write_bytes
from prefrec_ray.storage.parquet import check_seal, read_footer, read_parquet, seal_parquet

#: Text columns that a table of items may have, for reports.
ABOUT = ("title",)
#: Largest catalogue in which the nearest items are found by comparison with all items.
EXACT = 10_000
#: Largest number of items to request from an index; above it, comparison with all items is as fast.
MOST_OF_INDEX = 2_048
#: Number of scores (actions x items) in memory at once: 16 MiB of float32, which fit in the cache.
_SCORES_AT_ONCE = 1 << 22
#: Step between the items of the first sample, if there are many.
_STRIDE = 16
#: Tolerance relative to the largest number: given embeddings are equal in each log, learned ones differ
#: (docs/formats.md).
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Items in the order of `ids` [I] (int64 or str); `embeddings` float32 [I, A].

    `kind_codes` int32 [I, K], if known: a code of the item for each kind (mdp/kinds.py), -1 if unknown; the first kind
    is the cluster. `kind_names`: the names of the K kinds and of their values, empty if unknown.
    `about`: one row per item with the known columns of `ABOUT`, as text (null: unknown), for pages of reports.

    Raises `UserError` for ids of another type, repeated ids, and embeddings, kinds or texts with other shapes.
    """

    ids: np.ndarray
    embeddings: np.ndarray
    about: pa.Table | None = None
    kind_codes: np.ndarray | None = None
    kind_names: tuple[KindNames, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _plain_ids(self.ids, "items"))
        object.__setattr__(self, "embeddings", np.ascontiguousarray(self.embeddings, dtype=np.float32))
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.ids):
            raise UserError(f"items: found {len(self.ids)} ids and embeddings of shape {list(self.embeddings.shape)}")
        broken = np.flatnonzero(~np.isfinite(self.embeddings).all(axis=1))
        if len(broken):
            raise UserError(f"items: embedding of item {self.ids[broken[0]]!s} is not finite")
        sorted_ids = self.ids[self._order]
        repeated = np.flatnonzero(sorted_ids[1:] == sorted_ids[:-1])
        if len(repeated):
            raise UserError(f"items: item_id {sorted_ids[repeated[0]]!s} occurs more than once")
        if self.kind_codes is not None:
            codes = np.asarray(self.kind_codes, dtype=np.int32)
            if codes.ndim != 2 or len(codes) != len(self) or (codes < -1).any():
                raise UserError(
                    f"items: column 'kinds' is not a list of codes per item ({len(self)}), each at least -1"
                )
            object.__setattr__(self, "kind_codes", codes)
        kinds = 0 if self.kind_codes is None else self.kind_codes.shape[1]
        if self.kind_names and len(self.kind_names) != kinds:
            raise UserError(f"items: column 'kinds': found names of {len(self.kind_names)} kinds; expected {kinds}")
        if self.about is not None and len(self.about) != len(self.ids):
            raise UserError(f"items: {len(self.ids)} ids and {len(self.about)} rows of {', '.join(ABOUT)}")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, item_ids: np.ndarray) -> np.ndarray:
        """Return rows (int64) of `item_ids`. Raises `UserError` with the first unknown id."""
        rows = self.find(item_ids)
        if (rows < 0).any():
            unknown = np.asarray(item_ids)[(rows < 0).argmax()]
            raise UserError(f"item_id: found {unknown!s}; expected an item of the table of {len(self)} items")
        return rows

    def find(self, item_ids: np.ndarray) -> np.ndarray:
        """Return rows (int64) of `item_ids`, -1 for unknown ids. Raises `UserError` for ids of another type."""
        ids = _plain_ids(item_ids, "item ids")
        if not len(ids) or not len(self):
            return np.full(len(ids), -1)
        if (ids.dtype.kind == "i") != (self.ids.dtype.kind == "i"):
            raise UserError(
                f"item_id: found {ids[0]!s}, {_kind(ids)}; expected {_kind(self.ids)} ids as in the item table"
            )
        narrow = ids.astype(self.ids.dtype, copy=False)  # a longer text would make NumPy widen the whole table
        place = np.minimum(np.searchsorted(self._sorted_ids, narrow), len(self) - 1)
        return np.where(self._sorted_ids[place] == ids, self._order[place], -1)

    def same_embeddings(self, other: ItemTable) -> bool:
        """Return True if a Q is valid for both tables: common items exist, each with the same embedding."""
        if self.ids.dtype.kind != other.ids.dtype.kind or self.embeddings.shape[1] != other.embeddings.shape[1]:
            return False
        rows = other.find(self.ids)
        known = rows >= 0
        away = np.abs(self.embeddings[known] - other.embeddings[rows[known]])
        return bool(known.any() and away.max() <= _SAME * np.abs(self.embeddings).max())

    def nearest(self, actions: np.ndarray, k: int, excluded: ExcludedItems | None = None) -> np.ndarray:
        """Return rows int64 [n, k] of the items with the smallest Euclidean distances to `actions` [n, A], in order.

        Items that are `excluded` come last, in any order. Above `EXACT` items an index finds the items, which misses
        fewer than one in 200. Memory is bounded for any n. Raises `UserError` for a k outside 1..I.
        """
        if not 1 <= k <= len(self):
            raise UserError(f"found k = {k}; expected 1 to {len(self)}, the number of items")
        if len(self) > EXACT:
            more = 0 if excluded is None else int(excluded.counts().max(initial=0))
            if k + more <= MOST_OF_INDEX:
                rows = self._index.search(actions, k + more)
                return rows if excluded is None else _first_allowed(rows, excluded.hits(rows, len(self)), k)
        left = np.concatenate([actions, np.ones((len(actions), 1))], axis=1, dtype=np.float32)
        best = np.empty((len(actions), k), dtype=np.int64)
        chunk = max(1, _SCORES_AT_ONCE // len(self))
        for start in range(0, len(actions), chunk):
            loss = left[start : start + chunk] @ self._nearness
            if excluded is not None:
                out = excluded[start : start + chunk]
                loss[out.state, out.item] = np.inf
            best[start : start + chunk] = smallest(loss, k)
        return best

    def to_table(self) -> pa.Table:
        """Return a table: item_id, embedding (fixed_size_list<float32>), if known kinds (of int32), title."""
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(self.embeddings.ravel()), self.embeddings.shape[1])
        kinds = {}
        if self.kind_codes is not None:
            codes = pa.array(self.kind_codes.ravel())
            kinds = {"kinds": pa.FixedSizeListArray.from_arrays(codes, self.kind_codes.shape[1])}
        about = {} if self.about is None else {name: self.about[name] for name in self.about.column_names}
        table = pa.table({"item_id": pa.array(self.ids), "embedding": embedding, **kinds, **about})
        names = {"kinds": json.dumps(self.kind_names)} if self.kind_names else None
        return table.replace_schema_metadata(names)

    @classmethod
    def from_table(cls, table: pa.Table, where: str = "items") -> ItemTable:
        """Return the items of a `to_table`. Raises `UserError`, which begins with `where`, for bad columns."""
        for name in ("item_id", "embedding"):
            if name not in table.column_names:
                raise UserError(f"{where}: column '{name}' is missing; found {', '.join(table.column_names) or 'none'}")
            if table[name].null_count:
                raise UserError(f"{where}: column '{name}': found {table[name].null_count} nulls; expected none")
        kind = table["embedding"].type
        if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
            raise UserError(f"{where}: column 'embedding' is {kind}; expected fixed_size_list<float>")
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        ids = _plain_ids(table["item_id"].to_numpy(), where)
        texts = {name: table[name].cast(pa.string()) for name in ABOUT if name in table.column_names}
        embeddings, about = values.reshape(table.num_rows, kind.list_size), pa.table(texts) if texts else None
        return cls(ids, embeddings, about, _kind_codes(table, where), _kind_names(table, where))

    def save(self, uri: str) -> None:
        """Write the table to the Parquet file `uri`, sealed."""
        write_bytes(uri, seal_parquet(self.to_table(), compression="none"))

    @classmethod
    def load(cls, uri: str) -> ItemTable:
        """Read the Parquet file `uri`. Raises `UserError` if it is missing, unreadable or not a table of items."""
        check_seal(uri)  # Arrow may end the process by a signal if a footer is damaged
        rows, size = read_footer(uri).num_rows, check_readable(uri)
        if rows > size:  # checked before reading: equal values take no space in a file
            raise UserError(
                f"{uri}: found {rows:,} rows in {size:,} bytes; expected distinct ids, of one byte or more each"
            )
        return cls.from_table(read_parquet(uri), uri)

    @cached_property
    def kinds(self) -> np.ndarray:
        """Return the codes of the items for each kind, int32 [I, K]; clusters of embeddings if none are known."""
        return clusters(self.embeddings)[:, None] if self.kind_codes is None else self.kind_codes

    def kind(self, name: str) -> ItemKind:
        """Return the kind `name`. Raises `UserError` if it is unknown, as all but `cluster` in files without names."""
        # A feature of the log with the name `cluster` comes later, and is preferred.
        for column, names in reversed(list(enumerate(self.kind_names))):
            if names.name == name:
                return ItemKind(self.kinds[:, column], names)
        if name == CLUSTER:
            return ItemKind.from_clusters(self.kinds[:, 0])
        known = ", ".join(names.name for names in self.kind_names) or CLUSTER
        raise UserError(f"items: found kind '{name}'; expected one of {known}")

    def with_kinds(self, kinds: Sequence[ItemKind]) -> ItemTable:
        """Return the items with these kinds, the first of which is the cluster."""
        codes, names = np.stack([kind.codes for kind in kinds], axis=1), tuple(kind.names for kind in kinds)
        return replace(self, kind_codes=codes, kind_names=names)

    @cached_property
    def cells(self) -> Cells:
        return Cells.from_embeddings(self.embeddings)

    @cached_property
    def _nearness(self) -> np.ndarray:
        """Return the matrix [A + 1, I] that maps (a, 1) to |e|^2 / 2 - a.e, half a squared distance without |a|^2."""
        half_squares = 0.5 * np.einsum("ij,ij->i", self.embeddings, self.embeddings)
        return np.concatenate([-self.embeddings.T, half_squares[None]])

    @cached_property
    def _index(self) -> ItemIndex:
        return ItemIndex(self.embeddings)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.ids, kind="stable")

    @cached_property
    def _sorted_ids(self) -> np.ndarray:
        return self.ids[self._order]


def smallest(loss: np.ndarray, k: int) -> np.ndarray:
    """Return columns int64 [n, k] of the k smallest entries of each row of `loss` [n, m], smallest first."""
    if k == 1:
        return loss.argmin(axis=1, keepdims=True)
    if k == loss.shape[1]:
        return loss.argsort(axis=1, kind="stable")
    if k * _STRIDE <= loss.shape[1] // _STRIDE:
        # The k-th smallest of a sample is an upper bound for all. Few entries are below it, and finding them costs one
        # comparison per entry, while a partition of all entries costs a dozen.
        bound = np.partition(loss[:, ::_STRIDE], k - 1, axis=1)[:, k - 1 : k]
        row, column = np.nonzero(loss <= bound)
        count = np.bincount(row, minlength=len(loss))
        widest = count.max(initial=k)
        if 2 * widest <= loss.shape[1]:  # otherwise many are equal, for example infinite
            place = places_in_runs(np.cumsum(count) - count, len(row))
            few = np.full((len(loss), widest), np.inf, loss.dtype)
            columns = np.zeros(few.shape, dtype=np.int64)
            few[row, place], columns[row, place] = loss[row, column], column
            return np.take_along_axis(columns, smallest(few, k), axis=1)
    best = np.sort(np.argpartition(loss, k - 1, axis=1)[:, :k], axis=1)
    order = np.take_along_axis(loss, best, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _first_allowed(rows: np.ndarray, out: np.ndarray, k: int) -> np.ndarray:
    """Return the first k of `rows` [n, m] that are not `out` (bool [n, m]), in their order."""
    return np.take_along_axis(rows, out.argsort(axis=1, kind="stable")[:, :k], axis=1)


def _kind_codes(table: pa.Table, where: str) -> np.ndarray | None:
    """Return the column `kinds`, int32 [I, K]; None if it is absent. Raises `UserError` for another type and nulls."""
    if "kinds" not in table.column_names:
        return None
    column = table["kinds"].combine_chunks()
    kind = column.type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.int32() or column.null_count:
        raise UserError(f"{where}: column 'kinds' is {kind}; expected fixed_size_list<int32> without nulls")
    return column.flatten().to_numpy().reshape(table.num_rows, kind.list_size)


def _kind_names(table: pa.Table, where: str) -> tuple[KindNames, ...]:
    """Return the names in the metadata of the schema, empty if absent. Raises `UserError` for another form."""
    stored = (table.schema.metadata or {}).get(b"kinds")
    if stored is None:
        return ()
    try:
        pairs = json.loads(stored)
        return tuple(KindNames(str(name), {str(value): int(codes[value]) for value in codes}) for name, codes in pairs)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: column 'kinds': found unreadable names; expected [[NAME, CODES], ...]") from error


def _plain_ids(ids: np.ndarray, where: str) -> np.ndarray:
    """Return `ids` as an int64 or str array. Raises `UserError` for any other type."""
    ids = np.asarray(ids)
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64, copy=False)
    if ids.dtype.kind == "U":
        return ids
    if ids.dtype.kind in "OT" and all(isinstance(value, str) for value in ids):
        return ids.astype(np.str_)
    if ids.size == 0:
        return ids.astype(np.int64)
    raise UserError(f"{where}: found item_id of type {ids.dtype}; expected int64 or string")


def _kind(ids: np.ndarray) -> str:
    return "int64" if ids.dtype.kind == "i" else "string"
