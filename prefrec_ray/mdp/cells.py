"""Items in cells of alike ones: what lets a policy weigh a whole catalogue by the scores of some hundreds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: A catalogue of up to so many items is one cell: each item is scored.
ONE_CELL = 512


@dataclass(frozen=True)
class Cells:
    """Items in cells of nearly equal size.

    `members` int64 [M, W] holds the rows of the items of each cell, -1 beyond its size; the first is the item nearest
    to the mean of the cell, whose score speaks for all of it. `cell` int64 [I] is that of each item, `place` int64 [I]
    its column there.
    """

    members: np.ndarray
    cell: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Cells:
        """Halves the items [I, A] at the median of the coordinate that varies most, until there are some 4 sqrt(I)
        cells: a draw of ten items scores less than twice as many in all."""
        count = len(embeddings)
        halvings = 0 if count <= ONE_CELL else 2 + round(0.5 * math.log2(count))
        parts = [np.arange(count)]
        for _ in range(halvings):
            parts = [half for part in parts for half in _halves(part, embeddings)]
        members = np.full((len(parts), max(map(len, parts))), -1)
        cell, place = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        for number, part in enumerate(parts):
            away = embeddings[part] - embeddings[part].mean(axis=0)
            middle = np.square(away).sum(axis=1).argmin()
            part[[0, middle]] = part[[middle, 0]]
            members[number, : len(part)], cell[part] = part, number
            place[part] = np.arange(len(part))
        return cls(members, cell, place)

    @property
    def representatives(self) -> np.ndarray:
        """The item that speaks for each cell, int64 [M]."""
        return self.members[:, 0]

    @property
    def single(self) -> bool:
        """Whether all items are in one cell."""
        return len(self.members) == 1


def _halves(part: np.ndarray, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`part` [n] in two."""
    values, middle = embeddings[part], len(part) // 2
    order = np.argpartition(values[:, values.var(axis=0).argmax()], middle)
    return part[order[:middle]], part[order[middle:]]
