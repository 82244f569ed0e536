"""Search in large catalogues: cells of similar items, and an index of the nearest items by faiss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Number of items per list from which the centres of lists are fitted.
_LEARNED_FROM = 64
#: Number of lists to search.
_PROBED = 64


@dataclass(frozen=True)
class Cells:
    """Partition of the items into cells of nearly equal size.

    `members` int64 [M, W] contains the item rows of each cell, padded with -1. The first member is the representative:
    the item nearest to the mean of the cell. `cell` int64 [I] is the cell of each item, `place` int64 [I] its column in
    `members`.
    """

    members: np.ndarray
    cell: np.ndarray
    place: np.ndarray

    @classmethod
    def from_embeddings(cls, embeddings: np.ndarray, cells: int | None = None) -> Cells:
        """Split the items [I, A] at the median of the coordinate with the largest variance.

        `cells` is the least number of cells, at most I; None: about 4 sqrt(I), with which a draw of ten items scores
        fewer than twice as many items.
        """
        count = len(embeddings)
        halvings = 2 + round(0.5 * math.log2(count)) if cells is None else math.ceil(math.log2(cells))
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
        """Return the representative item of each cell, int64 [M]."""
        return self.members[:, 0]


def _halves(part: np.ndarray, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `part` [n] in two halves."""
    values, middle = embeddings[part], len(part) // 2
    order = np.argpartition(values[:, values.var(axis=0).argmax()], middle)
    return part[order[:middle]], part[order[middle:]]


class ItemIndex:
    """Index that finds items near an action without a search of all items (Johnson et al. 2019)."""

    def __init__(self, embeddings: np.ndarray) -> None:
        """Make an index of `embeddings` float32 [I, A]."""
        import faiss  # on demand: small catalogues do not need it

        lists = 1 << round(0.5 * np.log2(len(embeddings)))
        index = faiss.index_factory(embeddings.shape[1], f"IVF{lists},Flat")
        index.train(embeddings[np.random.default_rng(0).permutation(len(embeddings))[: lists * _LEARNED_FROM]])
        index.add(embeddings)
        # In a test, more than .995 of the 64 nearest are found among uniform, Gaussian and clustered items.
        index.nprobe = min(lists, _PROBED)  # type: ignore[attr-defined]
        self._index: Any = index

    def search(self, actions: np.ndarray, k: int) -> np.ndarray:
        """Return rows int64 [n, k] of the items nearest to `actions` [n, A], nearest first."""
        points = np.ascontiguousarray(actions, dtype=np.float32)
        _, rows = self._index.search(points, k)
        short = (rows < 0).any(axis=1)
        if short.any():  # too few items in the searched lists: these rows search all lists
            from faiss import IVFSearchParameters

            every = IVFSearchParameters(nprobe=self._index.nlist)  # type: ignore[call-arg]
            rows[short] = self._index.search(points[short], k, params=every)[1]
        return rows
