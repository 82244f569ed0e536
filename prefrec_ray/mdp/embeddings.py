"""Item embeddings from co-consumption, that is from items in the same baskets (sessions) of training users.

A regularised correspondence analysis. With X the basket x item matrix of zeros and ones, S the basket sizes and C the
item counts, it takes the leading eigenvectors of D_C X' D_S^2 X D_C, with D = 1 / sqrt(size + mean size): the mean
prevents small baskets and rare items from dominating an axis. Only X' D_S^2 X is needed, which partitions sum up
(`basket_gram`, `BasketGram.merge`): its entries are pairs of items, at most `MAX_SIZE` / 2 per row of the log, and
never the rows themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from prefrec_ray.errors import UserError
from prefrec_ray.ids import first_rows, run_lengths

MIN_SIZE = 3  # distinct items; smaller baskets would get their own axes
MAX_SIZE = 128  # rows; a longer basket counts as several, so that pairs stay linear in rows


@dataclass(frozen=True, eq=False)
class BasketGram:
    """`pairs`: upper triangle of X' D_S^2 X, sparse float32 [I, I]; `counts`: baskets of each item, int64 [I]."""

    pairs: sparse.csr_array
    counts: np.ndarray

    def merge(self, other: BasketGram) -> BasketGram:
        """Return the Gram matrix of the baskets of both. Merge in a fixed order for the same bits."""
        return BasketGram((self.pairs + other.pairs).tocsr(), self.counts + other.counts)


def basket_sizes(basket: np.ndarray, item_row: np.ndarray) -> np.ndarray:
    """Return the sizes (distinct items, int64) of the usable baskets.

    `basket_gram` needs their mean over all partitions. `basket` [N] is any label, by which the rows of a basket are
    adjacent; `item_row` [N] is the row of each item in the item table.
    """
    return np.diff(_baskets(basket, item_row, int(np.max(item_row, initial=-1)) + 1).indptr).astype(np.int64)


def basket_gram(basket: np.ndarray, item_row: np.ndarray, num_items: int, mean_size: float) -> BasketGram:
    """Return the co-consumption of the baskets of one partition, for rows as in `basket_sizes`."""
    baskets = _baskets(basket, item_row, num_items)
    weight = 1.0 / np.sqrt(np.diff(baskets.indptr) + mean_size)
    counts = np.bincount(baskets.indices, minlength=num_items)
    weighted = sparse.diags_array(weight.astype(np.float32)) @ baskets
    return BasketGram(sparse.triu(weighted.T @ weighted, format="csr"), counts)


def embeddings_from_gram(gram: BasketGram, dim: int) -> np.ndarray:
    """Return item embeddings in [-1, 1], float32 [I, dim]; zero for items without a usable basket.

    The first eigenvector only reflects popularity and is dropped; `spread` scales the others to [-1, 1]. Deterministic:
    fixed start vectors, fixed signs. Raises `UserError` if fewer than dim + 2 items can be embedded.
    """
    known = np.flatnonzero(gram.counts)
    if len(known) < dim + 2:
        raise UserError(
            f"item embeddings: found {len(known)} items in sessions of at least {MIN_SIZE} distinct items; "
            f"expected {dim + 2} for {dim} numbers per item (lower the dimension, or give embeddings)"
        )
    counts = gram.counts[known]
    scale = 1.0 / np.sqrt(counts + counts.mean())
    vectors = _leading_vectors(gram.pairs[known][:, known], scale, dim + 1)[:, 1:] * scale[:, None]
    embeddings = np.zeros((len(gram.counts), dim), dtype=np.float32)
    embeddings[known] = spread(vectors, counts)
    return embeddings


def spread(vectors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return vectors [I, dim] spread over [-1, 1] by their signed roots and the 99th percentile over `weight` [I].

    The largest number of each column is positive, since the sign of an axis has no meaning.
    """
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    roots = np.sign(vectors) * np.sqrt(np.abs(vectors))
    return np.clip(roots / _weighted_percentile(np.abs(roots), weight, 0.99), -1.0, 1.0)


def _baskets(basket: np.ndarray, item_row: np.ndarray, num_items: int) -> sparse.csr_array:
    """Return the usable baskets as rows of zeros and ones, float32."""
    starts = first_rows(basket)
    position = np.arange(len(basket)) - np.repeat(starts, run_lengths(starts, len(basket)))
    starts = np.flatnonzero(position % MAX_SIZE == 0)
    ones = np.ones(len(item_row), dtype=np.float32)
    baskets = sparse.csr_array((ones, item_row, np.append(starts, len(basket))), shape=(len(starts), num_items))
    baskets.sum_duplicates()
    baskets.data[:] = 1.0
    return baskets[np.flatnonzero(np.diff(baskets.indptr) >= MIN_SIZE)]


def _leading_vectors(upper: sparse.csr_array, scale: np.ndarray, k: int) -> np.ndarray:
    """Return eigenvectors [n, k] of the k largest eigenvalues, in order, of the scaled matrix with triangle `upper`."""
    lower, diagonal = upper.T, upper.diagonal()

    def multiply(x: np.ndarray) -> np.ndarray:
        y = scale * x.ravel()
        return scale * (upper @ y + lower @ y - diagonal * y)

    n = len(scale)
    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    # If eigenvalues coincide, because items are very similar, the method restarts from random vectors.
    _, vectors = eigsh(operator, k=k, v0=np.ones(n), ncv=min(n, 4 * k), tol=1e-5, rng=np.random.default_rng(0))
    return vectors[:, ::-1]


def _weighted_percentile(values: np.ndarray, weight: np.ndarray, level: float) -> np.ndarray:
    """Return for each column of `values` [n, k] the weighted quantile at `level`, at least 1e-12."""
    order = values.argsort(axis=0, kind="stable")
    reached = weight[order].cumsum(axis=0) >= level * weight.sum()
    place = order[reached.argmax(axis=0), np.arange(values.shape[1])]
    return np.maximum(values[place, np.arange(values.shape[1])], 1e-12)
