"""Index of the nearest of many items, by faiss: inverted lists, of which the nearest to an action are searched."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Number of items per list from which the centres of lists are fitted.
_LEARNED_FROM = 64
#: Number of lists to search, by rule: the largest dot products are spread over more lists.
PROBED = {"nearest": 64, "dot": 160}


class ItemIndex:
    """Index that finds items near an action without a search of all items (Johnson et al. 2019)."""

    def __init__(self, index: Any, width: int) -> None:
        self._index, self._width = index, width

    @classmethod
    def from_embeddings(cls, embeddings: np.ndarray, rule: str) -> ItemIndex:
        """Return an index of `embeddings` float32 [I, A]; `rule` as in `ItemTable.nearest`.

        For dot products one more coordinate turns the largest product into the nearest point (Bachrach et al. 2014).
        """
        import faiss  # on demand: small catalogues do not need it

        squares = np.einsum("ij,ij->i", embeddings, embeddings)
        rest = np.sqrt(squares.max() - squares) if rule == "dot" else np.zeros_like(squares)
        points = np.concatenate([embeddings, rest[:, None]], axis=1, dtype=np.float32)
        lists = 1 << round(0.5 * np.log2(len(points)))
        index = faiss.index_factory(points.shape[1], f"IVF{lists},Flat")
        index.train(points[np.random.default_rng(0).permutation(len(points))[: lists * _LEARNED_FROM]])
        index.add(points)
        # In a test, more than .995 of the 64 nearest are found among uniform, Gaussian and clustered items.
        index.nprobe = min(lists, PROBED[rule])  # type: ignore[attr-defined]
        return cls(index, points.shape[1])

    def search(self, actions: np.ndarray, k: int) -> np.ndarray:
        """Return rows int64 [n, k] of the best items for `actions` [n, A], best first."""
        points = np.zeros((len(actions), self._width), dtype=np.float32)
        points[:, :-1] = actions
        _, rows = self._index.search(points, k)
        short = (rows < 0).any(axis=1)
        if short.any():  # too few items in the searched lists: these rows search all lists
            from faiss import IVFSearchParameters

            every = IVFSearchParameters(nprobe=self._index.nlist)  # type: ignore[call-arg]
            rows[short] = self._index.search(points[short], k, params=every)[1]
        return rows
