"""Items in cells of alike ones: what lets a policy weigh a whole catalogue by the scores of some hundreds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Items of a cell whose scores speak for all of it.
REPRESENTATIVES = 4
#: A catalogue of up to so many items is one cell: each item is scored.
ONE_CELL = 512


@dataclass(frozen=True)
class Cells:
    """Items in cells of nearly equal size.

    `members` int64 [M, W] holds the rows of the items of each cell, -1 beyond its size; its first columns, in random
    order, are the `representatives` [M, R], all of them where there is one cell. `cell` int64 [I] is that of each item,
    `place` int64 [I] its column there.
    """

    members: np.ndarray
    representatives: np.ndarray
    cell: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Cells:
        """Halves the items [I, A] at the median of the coordinate that varies most, until a cell has some sqrt(I)."""
        count = len(embeddings)
        halvings = 0 if count <= ONE_CELL else round(0.5 * math.log2(count))
        parts = [np.random.default_rng(0).permutation(count)]
        for _ in range(halvings):
            parts = [half for part in parts for half in _halves(part, embeddings)]
        members = np.full((len(parts), max(map(len, parts))), -1)
        cell, place = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        for number, part in enumerate(parts):
            members[number, : len(part)], cell[part] = part, number
            place[part] = np.arange(len(part))
        return cls(members, members[:, : REPRESENTATIVES if halvings else None], cell, place)

    @property
    def single(self) -> bool:
        """Whether all items are in one cell."""
        return len(self.members) == 1


def _halves(part: np.ndarray, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`part` [n] in two, each in the order of `part`."""
    values = embeddings[part]
    values = values[:, values.var(axis=0).argmax()]
    low = np.zeros(len(part), dtype=bool)
    low[np.argpartition(values, len(part) // 2)[: len(part) // 2]] = True
    return part[low], part[~low]
