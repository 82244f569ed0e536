"""Scores of a catalogue, interpolated from the scores of some of its items, the landmarks.

Q(s, .) is a smooth function of an embedding, and expensive to compute for thousands of items per state. A cubic radial
basis function with a linear tail (Duchon 1977, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces")
through the scores of the landmarks gives the scores of all items as a product with one matrix. The matrix depends only
on embeddings, so that items come and go without training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.cells import Cells

#: Catalogues up to this size have no landmarks: all items are scored.
ALL_SCORED = 512
#: Least number of landmarks, and the factor of the width of an embedding, whose tail takes one landmark per axis.
_LEAST, _PER_AXIS = 128, 4


@dataclass(frozen=True)
class Landmarks:
    """Items `rows` int64 [L], and the `weights` float32 [L, I] from their scores to the scores of all items."""

    rows: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_embeddings(cls, embeddings: np.ndarray) -> Landmarks | None:
        """Choose landmarks among items with `embeddings` [I, A]: one per cell; None for a small catalogue."""
        count, width = embeddings.shape
        wanted = max(_LEAST, _PER_AXIS * width)
        if count <= max(ALL_SCORED, 2 * wanted):
            return None
        rows = Cells.from_embeddings(embeddings, wanted).representatives
        # Equal embeddings would make the equations singular.
        rows = rows[np.sort(np.unique(embeddings[rows], axis=0, return_index=True)[1])]
        own, size = embeddings[rows].astype(np.float64), len(rows)
        equations = np.zeros((size + width + 1, size + width + 1))
        equations[:size] = _basis(own, own)
        equations[size:, :size] = equations[:size, size:].T
        # The pseudo-inverse also solves for embeddings in a subspace, whose tail is not unique.
        weights = _basis(embeddings, own) @ np.linalg.pinv(equations, hermitian=True)[:, :size]
        return cls(rows, np.ascontiguousarray(weights.T, np.float32))


def _basis(embeddings: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the basis functions of the items [n, A] at L landmarks, float64 [n, L + A + 1]."""
    from scipy.spatial.distance import cdist  # on demand: small catalogues have no landmarks

    one = np.ones((len(embeddings), 1))
    return np.concatenate([cdist(embeddings, landmarks) ** 3, one, embeddings], axis=1)
