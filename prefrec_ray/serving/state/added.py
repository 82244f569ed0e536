"""Items that a platform adds to a running server, with an embedding, categories, or both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable


@dataclass(frozen=True, eq=False)
class Added:
    """An added item: its `embedding` float32 [A], and its values of kinds, for example {"genre": "news"}."""

    embedding: np.ndarray
    categories: Mapping[str, str]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Added:
        """Return the item of a row of the log."""
        return cls(np.array(row["embedding"], np.float32), json.loads(row["note"] or "{}"))

    @property
    def row(self) -> dict[str, Any]:
        """Return the columns of the log."""
        note = json.dumps(dict(self.categories)) if self.categories else None
        return {"embedding": self.embedding.tolist(), "note": note}


def with_embeddings(
    given: Iterable[tuple[int | str, Sequence[float] | None, Mapping[str, str]]], items: ItemTable
) -> dict[Any, Added]:
    """Return items by id, for (id, embedding or None, categories) of each.

    Without an embedding, one of the known `items` keeps its own, and a new item has the mean over those `items` that
    share most of its categories. Raises `UserError` for an unknown kind, and if no item shares a category.
    """
    added, means = {}, dict[str, np.ndarray]()
    for item, embedding, categories in given:
        try:
            values = {name: items.kind(name).names.codes.get(value, -1) for name, value in categories.items()}
            row = -1 if embedding is not None else int(items.find(np.array([item]))[0])
            if embedding is not None:
                own = np.array(embedding, np.float32)
            elif row >= 0:
                own = items.embeddings[row]
            else:
                key = str(sorted(values.items()))
                own = means[key] = means[key] if key in means else _mean_of_alike(items, values)
        except UserError as error:
            raise UserError(f"item {item}: {error}") from error
        added[item] = Added(own, dict(categories))
    return added


def _mean_of_alike(items: ItemTable, values: Mapping[str, int]) -> np.ndarray:
    """Return the mean embedding of the items that share most of the `values`, codes by kind; -1: no item has it."""
    shared = np.zeros(len(items), np.int64)
    for name, code in values.items():
        shared += (items.kind(name).codes == code) & (code >= 0)
    if not shared.any():
        raise UserError("found no embedding, and no category of a known item; expected one of both")
    mean: np.ndarray = items.embeddings[shared == shared.max()].mean(axis=0)
    return mean


def check_embedding(item: int | str, embedding: np.ndarray, items: ItemTable, added: Mapping[Any, Added]) -> None:
    """Check that `item` has no other embedding in `items` and `added`, since states of users depend on it.

    Raises `UserError`, also for another length.
    """
    width = items.embeddings.shape[1]
    if len(embedding) != width:
        raise UserError(f"item {item}: found an embedding of {len(embedding)} numbers; expected {width}")
    (row,) = items.find(np.array([item]))
    known = items.embeddings[row] if row >= 0 else added[item].embedding if item in added else embedding
    if not np.array_equal(known, embedding):
        raise UserError(
            f"item {item}: found another embedding than in the states of users; expected the same, or a new id"
        )


def extended(items: ItemTable, ids: np.ndarray, added: Sequence[Added]) -> ItemTable:
    """Return `items` plus `added` items with these ids. Raises `UserError` if their embeddings have another length.

    An added item is in the cluster of the nearest known item. Its other kinds are known if its categories are.
    """
    width = items.embeddings.shape[1]
    for item, one in zip(ids.tolist(), added, strict=True):
        if len(one.embedding) != width:
            raise UserError(
                f"item {item}: found an added embedding of {len(one.embedding)} numbers; expected {width}, or"
                " another state folder"
            )
    new = np.stack([one.embedding for one in added]).astype(np.float32)
    kinds = items.kind_codes
    if kinds is not None:
        of_new = np.full((len(added), kinds.shape[1]), -1, np.int32)
        of_new[:, 0] = kinds[items.nearest(new, 1)[:, 0], 0]
        for column, (name, codes) in list(enumerate(items.kind_names))[1:]:
            of_new[:, column] = [codes.get(one.categories[name], -1) if name in one.categories else -1 for one in added]
        kinds = np.concatenate([kinds, of_new])
    embeddings = np.concatenate([items.embeddings, new])
    return ItemTable(np.concatenate([items.ids, ids]), embeddings, kind_codes=kinds, kind_names=items.kind_names)
