"""Agreement of annotators with each other, and of each annotator with the aggregated labels."""

from __future__ import annotations

import numpy as np

from prefrec_ray.annotation.aggregate import side


def krippendorff_alpha(pair: np.ndarray, value: np.ndarray) -> float | None:
    """Return Krippendorff's alpha of nominal values (the sides of votes); None if it is undefined.

    pair [V] and value [V] belong to V votes, of any type that NumPy sorts. 1 is perfect agreement, 0 is chance. With
    coincidences o[c, k] = sum over pairs of the ordered pairs of votes (c, k) / (votes - 1) and n[c] = sum_k o[c, k],
    alpha is 1 - (n - 1) sum_{c != k} o[c, k] / sum_{c != k} n[c] n[k] (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Pairs with one vote do not count. It is undefined if all values are equal.
    """
    pairs, number = np.unique(pair, return_inverse=True)
    values, kind = np.unique(value, return_inverse=True)
    counts = np.zeros((len(pairs), len(values)))
    np.add.at(counts, (number, kind), 1)
    votes = counts.sum(axis=1)
    counts, votes = counts[votes > 1], votes[votes > 1]
    coincidences = (counts.T / (votes - 1)) @ counts - np.diag((counts.T / (votes - 1)).sum(axis=1))
    totals = coincidences.sum(axis=1)
    total = totals.sum()
    expected = total**2 - np.square(totals).sum()
    if not expected > 0:
        return None
    observed = total - np.trace(coincidences)
    return float(1 - (total - 1) * observed / expected)


def disagreement(annotator: np.ndarray, label: np.ndarray, aggregate: np.ndarray, annotators: int) -> np.ndarray:
    """Return the share of each annotator's votes that differ from the label of their pair, float64 [annotators].

    annotator int64 [V], label [V] and aggregate [V] (the pair's label) belong to V votes. NaN without votes.
    """
    differs = side(label) != side(aggregate)
    votes = np.bincount(annotator, minlength=annotators)
    return np.bincount(annotator, differs, minlength=annotators) / np.where(votes > 0, votes, np.nan)
