"""Item embeddings from tags, makers and co-consumption.

Three blocks of numbers per item: its tags (shares of one), the mean tags of its maker's items, and its vector from
co-consumption (embeddings.py). An item without such a vector gets the mean of its maker's items, shrunk towards the
mean of items with its tags, so that it is near similar items and not at zero. The blocks are centred, scaled to their
parts of the variance over consumptions, and reduced to the leading axes. An item of which
all three are unknown is at zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.embeddings import spread

#: Parts of the variance: half for the content, half for co-consumption.
_SHARES = (0.25, 0.25, 0.5)
#: Number of a maker's items that have the same weight as the tags.
_PRIOR_ITEMS = 2.0
_ITEMS_AT_ONCE = 1 << 16


def content_embeddings(
    together: np.ndarray, tags: sparse.csr_array, maker: np.ndarray, count: np.ndarray, dim: int
) -> np.ndarray:
    """Return item embeddings in [-1, 1], float32 [I, dim].

    `together` [I, D] is NaN for items of unknown co-consumption, `tags` [I, T] zeros and ones, `maker` int64 [I] -1 if
    unknown, `count` [I] the consumptions by training users: axes and scales are means over consumptions. Deterministic.
    Raises `UserError` if the labels cannot fill `dim` axes.
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
