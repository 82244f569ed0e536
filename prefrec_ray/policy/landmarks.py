"""Scores of a catalogue, interpolated from the scores of some of its items, the landmarks.

Q(s, .) is a smooth function of an embedding, and expensive to compute for thousands of items per state. A cubic radial
basis function with a linear tail (Duchon 1977, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces")
through the scores of the landmarks gives the scores of all other items. It depends only on embeddings, so that items
come and go without training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from prefrec_ray.mdp.catalogue import Cells
from prefrec_ray.mdp.items import ItemTable

#: Catalogues up to this size have no landmarks: all items are scored.
ALL_SCORED = 512
#: Least number of landmarks, and the factor of the width of an embedding, whose tail takes one landmark per axis.
_LEAST, _PER_AXIS = 128, 4
#: Largest rounding error, as a share of the scores, with which float32 is used: it takes half of the time of float64.
_ROUNDING = 1e-4
#: Items of one pass, whose distances to the landmarks fit in the cache.
_AT_ONCE = 512


@dataclass(frozen=True)
class Landmarks:
    """Items `rows` int64 [L] with `embeddings` [L, A], whose type is the precision of `interpolate`.

    `solution` float64 [L + A + 1, L] maps the scores of the landmarks to the coefficients of the spline: one for the
    cube of the distance to each landmark, the constant, and the slopes.
    """

    rows: np.ndarray
    embeddings: np.ndarray
    solution: np.ndarray

    @classmethod
    def from_embeddings(cls, embeddings: np.ndarray) -> Landmarks | None:
        """Choose landmarks among items with `embeddings` [I, A]: one per cell; None for a small catalogue."""
        count, width = embeddings.shape
        wanted = max(_LEAST, _PER_AXIS * width)
        if count <= max(ALL_SCORED, 2 * wanted):
            return None
        # Equal embeddings would make the equations singular, and take the landmarks of other items.
        distinct = _distinct(embeddings)
        rows = distinct
        if len(distinct) > 2 * wanted:
            rows = distinct[Cells.from_embeddings(embeddings[distinct], wanted).representatives]
        own, size = embeddings[rows].astype(np.float64), len(rows)
        equations = np.zeros((size + width + 1, size + width + 1))
        cubes = _cubes(_left(own), _right(own), np.empty((2, size, size)))
        equations[:size] = np.concatenate([cubes, np.ones((size, 1)), own], axis=1)
        equations[size:, :size] = equations[:size, size:].T
        # The pseudo-inverse also solves for embeddings in a subspace, whose tail is not unique.
        solution = np.linalg.pinv(equations, hermitian=True)[:, :size]
        # Close landmarks have large coefficients of opposite signs, which float32 would round.
        rounding = np.finfo(np.float32).eps * np.linalg.norm(solution[:size], 2) * equations[:size, :size].max()
        return cls(rows, own.astype(np.float32 if rounding <= _ROUNDING else np.float64), solution)

    def interpolate(self, scores: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Return the scores float32 [n, m] of items with `embeddings` [m, A], from `scores` [n, L] of the landmarks."""
        coefficients = (self.solution @ scores.T).astype(self.embeddings.dtype)
        cubic, constant, linear = np.split(coefficients, [len(self.rows), len(self.rows) + 1])
        scored = np.empty((len(embeddings), len(scores)), np.float32)
        left = _left(embeddings.astype(self.embeddings.dtype, copy=False))
        squares = np.empty((2, min(_AT_ONCE, len(left)), len(self.rows)), left.dtype)
        for start in range(0, len(embeddings), _AT_ONCE):
            part = left[start : start + _AT_ONCE]
            cubes = _cubes(part, self._right, squares[:, : len(part)])
            scored[start : start + _AT_ONCE] = cubes @ cubic + part[:, : linear.shape[0]] @ linear + constant
        return np.ascontiguousarray(scored.T)

    @cached_property
    def _right(self) -> np.ndarray:
        return _right(self.embeddings)


_OF_TABLES: WeakKeyDictionary[ItemTable, Landmarks | None] = WeakKeyDictionary()


def landmarks_of(items: ItemTable) -> Landmarks | None:
    """Return the landmarks of a table; policies that share the table share them, for example after a reload."""
    if items not in _OF_TABLES:
        _OF_TABLES[items] = Landmarks.from_embeddings(items.embeddings)
    return _OF_TABLES[items]


def _distinct(embeddings: np.ndarray) -> np.ndarray:
    """Return the first row of each distinct embedding, int64 ascending."""
    values = np.ascontiguousarray(embeddings + 0)  # -0.0 becomes 0.0
    whole = values.view(np.dtype((np.void, values.itemsize * values.shape[1])))  # many times as fast as `axis=0`
    return np.sort(np.unique(whole, return_index=True)[1])


def _cubes(left: np.ndarray, right: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return the cubes of the Euclidean distances of n items to L landmarks, [n, L], in `memory` [2, n, L]."""
    # |e|^2 - 2 e.l + |l|^2 as one product: two sums over n x L numbers would take as long again.
    squares, roots = memory
    np.matmul(left, right, out=squares)
    np.abs(squares, out=squares)  # rounding makes squares of 0 slightly negative
    squares *= np.sqrt(squares, out=roots)
    return squares


def _left(items: np.ndarray) -> np.ndarray:
    """Return the first factor of the squared distances of items [n, A], [n, A + 2]."""
    return np.concatenate([items, np.square(items).sum(axis=1, keepdims=True), np.ones_like(items[:, :1])], axis=1)


def _right(landmarks: np.ndarray) -> np.ndarray:
    """Return the second factor of the squared distances to landmarks [L, A], [A + 2, L]."""
    squares = np.square(landmarks).sum(axis=1, keepdims=True)
    return np.concatenate([-2 * landmarks, np.ones_like(squares), squares], axis=1).T
