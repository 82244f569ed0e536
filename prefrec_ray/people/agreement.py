"""How far annotators agree: with each other, and each with the label that was made of all their votes."""

from __future__ import annotations

import numpy as np

from prefrec_ray.people.aggregate import side


def krippendorff_alpha(pair: np.ndarray, value: np.ndarray) -> float | None:
    """Krippendorff's alpha of nominal values (the sides of votes); None where it is not defined.

    Of V votes: pair [V], value [V], of any type that numpy sorts. 1 is perfect agreement, 0 that of chance. With
    coincidences o[c, k] = sum over pairs of the ordered pairs of votes (c, k) / (votes - 1) and n[c] = sum_k o[c, k],
    alpha is 1 - (n - 1) sum_{c != k} o[c, k] / sum_{c != k} n[c] n[k] (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Pairs with one vote do not count. It is undefined where all values are equal.
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
    """Share of each annotator's votes that are on another side than the label of their pair, float64 [annotators].

    Of V votes: annotator int64 [V], label [V], aggregate [V] (the label of the vote's pair). NaN without votes.
    """
    differs = side(label) != side(aggregate)
    votes = np.bincount(annotator, minlength=annotators)
    return np.bincount(annotator, differs, minlength=annotators) / np.where(votes > 0, votes, np.nan)
