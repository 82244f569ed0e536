"""Kinds of items: the cluster of an item's embedding, and the item's categories and maker if the log has them.

Users may tire of a topic or grow fond of a maker. Neither is linear in the embedding, so that such effects need counts
of earlier impressions of the same kind (exposure.py).

An effect of a kind on an outcome is a random effect: the mean outcome is shrunk by the signal that two halves of the
users share (empirical Bayes; Robbins 1956), so that rare kinds, and kinds without an effect, have about 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from scipy import sparse

    from prefrec_ray.logs.log import ContentOf

#: Candidates for the number of clusters.
COUNTS = (6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
#: Items to which clusters are fitted; all others are assigned to the nearest centre.
_SAMPLE = 10_000
#: Lloyd's iterations.
_STEPS = 20
#: Draws from which each first centre is chosen.
_TRIALS = 4
#: Numbers in memory in one pass over the items.
_AT_ONCE = 1 << 22
#: Values of a kind that are stored by name, in the footer of a file. Kinds with more have only codes.
_MOST_VALUES = 100_000
#: Values of a kind that an error lists.
_LISTED = 20
CLUSTER = "cluster"


class KindNames(NamedTuple):
    """Names of a kind: its own name, and the code of each value, for example {"news": 12}; empty if not stored."""

    name: str
    codes: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ItemKind:
    """A kind of items: `codes` int32 [I], -1 if unknown, and the `names` of the kind and of its values."""

    codes: np.ndarray
    names: KindNames

    @classmethod
    def from_clusters(cls, codes: np.ndarray) -> ItemKind:
        """Return the kind `cluster`, with the codes as names of the values."""
        return cls(codes, KindNames(CLUSTER, {str(code): code for code in np.unique(codes).tolist()}))

    @classmethod
    def from_makers(cls, maker: np.ndarray, name: str) -> ItemKind:
        """Return the kind of the items' makers, int64 [I], -1 if unknown."""
        makers, code = np.unique(maker, return_inverse=True)
        codes = {str(one): number for number, one in enumerate(makers.tolist()) if one >= 0}
        known = np.where(maker >= 0, code, -1).astype(np.int32)
        return cls(known, KindNames(name, codes if len(codes) <= _MOST_VALUES else {}))

    def find(self, value: str) -> int:
        """Return the code of `value`. Raises `UserError` for an unknown value."""
        known = self.names.codes
        if value not in known:
            listed = ", ".join([*sorted(known)[:_LISTED], *(["..."] if len(known) > _LISTED else [])])
            expected = f"one of {listed}" if known else f"a kind of at most {_MOST_VALUES:,} values, stored with names"
            raise UserError(f"{self.names.name}: found value '{value}'; expected {expected}")
        return known[value]


def clusters(embeddings: np.ndarray) -> np.ndarray:
    """Return the k-means cluster of each item, int32 [I], for `embeddings` [I, A]. Deterministic.

    The number of clusters is the candidate with the largest ratio of variances between and within clusters, each per
    degree of freedom (Calinski and Harabasz 1974). All items are in cluster 0 if there are too few distinct ones.
    """
    rng = np.random.default_rng(0)
    sample = embeddings.astype(np.float64)
    if len(sample) > _SAMPLE:
        sample = sample[np.sort(rng.choice(len(sample), _SAMPLE, replace=False))]
    distinct = len(np.unique(sample, axis=0))
    total = np.square(sample - sample.mean(axis=0)).sum() if len(sample) else 0.0
    best, centres = -np.inf, sample[:1]
    for count in COUNTS:
        if count > distinct // 2:
            break
        fitted, within = _k_means(sample, count, rng)
        ratio = (total - within) / (count - 1) / max(within / (len(sample) - count), 1e-12)
        if ratio > best:
            best, centres = ratio, fitted
    return nearest_centre(embeddings, centres)


def content_kinds(
    tags: sparse.csr_array, feature: np.ndarray, features: Sequence[str], categories: Sequence[str]
) -> list[ItemKind]:
    """Return the kinds of items by their tags [I, T], one per feature; -1: no tag.

    An item with several tags of a feature is of the kind of its most frequent tag. `feature` int64 [T] is the number of
    each tag's feature, `features` are their names, and `categories` [T] the names of the tags.
    """
    shown = tags.tocoo()
    count = np.asarray(tags.sum(axis=0)).ravel()
    by_count = np.argsort(count[shown.col], kind="stable")  # the most frequent tag is written last
    kinds = []
    for number, name in enumerate(features):
        own = by_count[feature[shown.col[by_count]] == number]
        column = np.full(tags.shape[0], -1, np.int32)
        column[shown.row[own]] = shown.col[own]
        codes = {categories[tag]: tag for tag in np.flatnonzero(feature == number).tolist()}
        kinds.append(ItemKind(column, KindNames(name, codes)))
    return kinds


def kinds_of(ids: np.ndarray, embeddings: np.ndarray, content_of: ContentOf | None) -> list[ItemKind]:
    """Return the kinds of items: the cluster of the embedding, and the kinds by their content if it is known.

    `content_of` takes ascending ids.
    """
    kinds = [ItemKind.from_clusters(clusters(embeddings))]
    if content_of is None:
        return kinds
    order = np.argsort(ids, kind="stable")
    place = np.argsort(order, kind="stable")
    content = content_of(ids[order])
    by_id = content_kinds(content.tags, content.feature, content.features, content.categories)
    if (content.maker >= 0).any():
        by_id.append(ItemKind.from_makers(content.maker, content.maker_name))
    return [*kinds, *(ItemKind(kind.codes[place], kind.names) for kind in by_id)]


def nearest_centre(embeddings: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the row of the nearest of `centres` [K, A] for each of `embeddings` [I, A], int32 [I]."""
    if len(centres) < 2:
        return np.zeros(len(embeddings), np.int32)
    rows = max(1, _AT_ONCE // len(centres))
    parts = [embeddings[start : start + rows] for start in range(0, len(embeddings), rows)]
    half_squares = 0.5 * np.square(centres).sum(axis=1)
    return np.concatenate([(half_squares - part @ centres.T).argmin(axis=1) for part in parts]).astype(np.int32)


def _k_means(sample: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return the centres [count, A] of k-means with greedy k-means++, and the sum of squared distances to them."""
    centres = np.empty((count, sample.shape[1]))
    distance = np.full(len(sample), np.inf)
    chance = np.full(len(sample), 1 / len(sample))
    for number in range(count):
        drawn = sample[rng.choice(len(sample), _TRIALS, p=chance)]
        away = np.minimum(distance, np.square(sample - drawn[:, None]).sum(axis=2))
        best = away.sum(axis=1).argmin()
        centres[number], distance = drawn[best], away[best]
        chance = distance / distance.sum()
    for _ in range(_STEPS):
        cluster = nearest_centre(sample, centres)
        size = np.bincount(cluster, minlength=count)
        sums = np.stack([np.bincount(cluster, column, count) for column in sample.T], axis=1)
        centres = np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], centres)
    return centres, float(np.square(sample - centres[nearest_centre(sample, centres)]).sum())


def kind_effects(outcomes: np.ndarray, users: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return the effect of each code, float32 [C] for each of K kinds, on `outcomes` float64 [n].

    `users` int64 [n] are the numbers of the users, and `codes` int32 [n, K] the kinds of the items; -1: unknown. Later
    kinds explain what the earlier ones leave. A user's mean is removed, since it is not due to an item.
    """
    counts = np.bincount(users)
    left = outcomes - (np.bincount(users, outcomes) / np.maximum(counts, 1))[users]
    effects = []
    for code in codes.T:
        known = code >= 0
        own = _shrunk_means(left[known], users[known] % 2, code[known])
        left = left - np.where(known, np.append(own, 0.0)[code], 0.0)
        effects.append(own.astype(np.float32))
    return effects


def effects_of_items(effects: Sequence[np.ndarray], kinds: np.ndarray) -> np.ndarray:
    """Return the sum of the `effects` of the kinds int32 [I, K] of each item, float32 [I]; 0 for unknown kinds."""
    total = np.zeros(len(kinds), np.float32)
    for own, codes in zip(effects, kinds.T, strict=False):
        known = (codes >= 0) & (codes < len(own))
        total[known] += own[codes[known]]
    return total


def _shrunk_means(values: np.ndarray, half: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return the shrunk mean of `values` [n] of each code, float64 [C]; `half` [n] is 0 or 1.

    The variance of effects is the covariance of the means of both halves, which have no user in common.
    """
    size = int(code.max(initial=-1)) + 1
    place = half * size + code
    count = np.bincount(place, minlength=2 * size).reshape(2, size)
    total = np.bincount(place, values, minlength=2 * size).reshape(2, size)
    each, overall = total / np.maximum(count, 1), total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    weight = count.min(axis=0)
    if not weight.any():
        return np.zeros(size)
    variance = float((weight * each.prod(axis=0)).sum() / weight.sum())
    if variance <= 0:
        return np.zeros(size)
    shown, rows = int((count.sum(axis=0) > 0).sum()), count.sum(axis=0)
    # The mean of n values has the variance `variance` + noise / n.
    noise = max(0.0, float((rows * np.square(overall)).sum() - variance * rows.sum()) / shown)
    return overall * rows / np.maximum(rows + noise / variance, 1)  # a code without impressions has no effect
