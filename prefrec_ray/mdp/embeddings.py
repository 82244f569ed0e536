"""Item embeddings from baskets (sessions) of training users, and from tags and makers.

Co-consumption is a regularised correspondence analysis. With X the basket x item matrix of zeros and ones, S the basket
sizes and C the item counts, it takes the leading eigenvectors of D_C X' D_S^2 X D_C, with D = 1 / sqrt(size + mean
size): the mean prevents small baskets and rare items from dominating an axis. Only X' D_S^2 X is needed, which
partitions sum up (`basket_gram`, `BasketGram.merge`): its entries are pairs of items, at most `MAX_SIZE` / 2 per row of
the log, and never the rows themselves.

With content, there are three blocks of numbers per item: its tags (shares of one), the mean tags of its maker's items,
and its vector from co-consumption. An item without such a vector gets the mean of its maker's items, shrunk towards the
mean of items with its tags. The blocks are centred, scaled to their parts of the variance over consumptions, and
reduced to the leading axes. An item of which all three are unknown is at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from prefrec_ray.errors import UserError
from prefrec_ray.ids import first_rows, places_in_runs

MIN_SIZE = 3  # distinct items; smaller baskets would get their own axes
MAX_SIZE = 128  # rows; a longer basket counts as several, so that pairs stay linear in rows
#: Parts of the variance: half for the content, half for co-consumption.
_SHARES = (0.25, 0.25, 0.5)
#: Number of a maker's items that have the same weight as the tags.
_PRIOR_ITEMS = 2.0
_ITEMS_AT_ONCE = 1 << 16


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
            f"expected {dim + 2} for an `action_dim` of {dim}, or `items` with an embedding or features"
        )
    counts = gram.counts[known]
    scale = 1.0 / np.sqrt(counts + counts.mean())
    vectors = _leading_vectors(gram.pairs[known][:, known], scale, dim + 1)[:, 1:] * scale[:, None]
    embeddings = np.zeros((len(gram.counts), dim), dtype=np.float32)
    embeddings[known] = spread(vectors, counts)
    return embeddings


def spread(vectors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return vectors [I, dim] in [-1, 1]: signed roots, by the 99th percentile over `weight` [I]; largest positive."""
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    roots = np.sign(vectors) * np.sqrt(np.abs(vectors))
    return np.clip(roots / _weighted_percentile(np.abs(roots), weight, 0.99), -1.0, 1.0)


def _baskets(basket: np.ndarray, item_row: np.ndarray, num_items: int) -> sparse.csr_array:
    """Return the usable baskets as rows of zeros and ones, float32."""
    starts = first_rows(basket)
    position = places_in_runs(starts, len(basket))
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


def content_embeddings(
    together: np.ndarray, tags: sparse.csr_array, maker: np.ndarray, count: np.ndarray, dim: int, fewer: bool = False
) -> np.ndarray:
    """Return item embeddings in [-1, 1], float32 [I, dim], or with `fewer` of at most `dim` numbers.

    `together` [I, D] is NaN for items of unknown co-consumption, `tags` [I, T] zeros and ones, `maker` int64 [I] -1 if
    unknown, `count` [I] the consumptions by training users: axes and scales are means over consumptions. Deterministic.
    Raises `UserError` if the labels cannot fill `dim` axes, or with `fewer` not even one.
    """
    own = _shares(tags)
    groups, group = np.unique(maker, return_inverse=True)
    group = np.where(maker >= 0, group, -1)
    theirs = _of_makers(own, group, len(groups))
    own = _filled(own, theirs)
    blocks = [own, theirs, sparse.csr_array(placed(together, own, group, len(groups)))]
    weight = count / max(count.sum(), 1) if count.sum() else np.full(len(count), 1 / len(count))
    mean = [np.asarray(block.T @ weight).ravel() for block in blocks]
    variance = [float((block.multiply(block).T @ weight).sum() - m @ m) for block, m in zip(blocks, mean, strict=True)]
    scale = [np.sqrt(s / v) if v > 1e-12 else 0.0 for s, v in zip(_SHARES, variance, strict=True)]

    def rows() -> Iterator[tuple[slice, np.ndarray]]:
        for first in range(0, len(count), _ITEMS_AT_ONCE):
            part = slice(first, first + _ITEMS_AT_ONCE)
            values = [_centred(block[part], m, s) for block, m, s in zip(blocks, mean, scale, strict=True)]
            yield part, np.concatenate(values, axis=1)

    covariance = sum(values.T @ (values * weight[part, None]) for part, values in rows())
    size, axes = np.linalg.eigh(covariance)
    rank = int((size > 1e-9 * size[-1]).sum()) if size[-1] > 0 else 0
    dim = min(rank, dim) if fewer and rank else dim
    if rank < dim:
        raise UserError(
            f"item embeddings: found {rank} axes of tags, makers and sessions; expected {dim}: lower action_dim"
        )
    axes = axes[:, ::-1][:, :dim]
    vectors = np.empty((len(count), dim))
    for part, values in rows():
        vectors[part] = values @ axes
    return spread(vectors, np.maximum(count, 1e-3)).astype(np.float32)


def placed(together: np.ndarray, tags: sparse.csr_array, group: np.ndarray, groups: int) -> np.ndarray:
    """Return `together` with a vector for every item, float64 [I, D]; NaN is replaced by means over maker and tags."""
    known = ~np.isnan(together[:, 0])
    values = np.where(known[:, None], together, 0.0).astype(np.float64)
    if not known.any():
        return values
    heard = sparse.csr_array(tags.multiply(known[:, None]))
    by_tag = (heard.T @ values) / np.maximum(heard.sum(axis=0), 1e-12)[:, None]
    guess = tags @ by_tag
    mine = known & (group >= 0)
    number = np.bincount(group[mine], minlength=groups)
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group[mine], values[mine])
    has_maker = group >= 0
    guess[has_maker] = (total[group[has_maker]] + _PRIOR_ITEMS * guess[has_maker]) / (
        number[group[has_maker]] + _PRIOR_ITEMS
    )[:, None]
    return np.where(known[:, None], values, guess)


def _centred(block: sparse.csr_array, mean: np.ndarray, scale: float) -> np.ndarray:
    values = (block.toarray() - mean) * scale
    values[np.diff(block.indptr) == 0] = 0.0
    return values


def _shares(tags: sparse.csr_array) -> sparse.csr_array:
    """Return rows scaled to a sum of 1; rows without tags stay empty."""
    total = np.asarray(tags.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(total, 1.0)) @ tags)


def _of_makers(shares: sparse.csr_array, group: np.ndarray, groups: int) -> sparse.csr_array:
    """Return for each item the mean shares of its maker's items with tags; its own shares if the maker is unknown."""
    tagged = np.diff(shares.indptr) > 0
    rows = np.flatnonzero((group >= 0) & tagged)
    number = np.bincount(group[rows], minlength=groups)
    weight = 1.0 / number[group[rows]]
    mean = sparse.csr_array((weight, (group[rows], rows)), shape=(groups, len(group))) @ shares
    items = np.flatnonzero(group >= 0)
    spread_out = sparse.csr_array((np.ones(len(items)), (items, group[items])), shape=(len(group), groups)) @ mean
    return _filled(spread_out, shares)


def _filled(values: sparse.csr_array, other: sparse.csr_array) -> sparse.csr_array:
    """Return `values`, with empty rows replaced by the rows of `other`."""
    empty = sparse.diags_array((np.diff(values.indptr) == 0).astype(np.float64))
    return sparse.csr_array(values + empty @ other)
