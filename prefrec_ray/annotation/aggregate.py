"""Aggregation of the votes on a pair to one label, P(second preferred), and agreement of annotators.

A vote v is a number with a side: first (v < 1/2), tie (v = 1/2) or second (v > 1/2). `mean` uses the numbers, the other
methods use the sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from prefrec_ray.annotation.consensus import consensus
from prefrec_ray.errors import need

#: P(second preferred) of the sides 0, 1, 2.
SIDES = np.array([0.0, 0.5, 1.0])

#: Largest number of rounds of expectation and maximization, which end earlier if the likelihood converges.
_ROUNDS = 100

Aggregate = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def side(label: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 (first, tie, second) for labels in [0, 1], int64."""
    return (np.sign(label - 0.5) + 1).astype(np.int64)


def mean(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> np.ndarray:
    """Return the mean vote, float64 [pairs]. Arguments for V votes: pair and annotator int64 [V] from 0, label [V].

    Every pair needs a vote.
    """
    return np.bincount(pair, label, minlength=pairs) / np.bincount(pair, minlength=pairs)


def majority(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> np.ndarray:
    """Return the side with most votes, or a tie if several sides have most votes. Arguments and result as in `mean`."""
    counts = np.zeros((pairs, 3))
    np.add.at(counts, (pair, side(label)), 1)
    most = counts == counts.max(axis=1, keepdims=True)
    return np.where(most.sum(axis=1) == 1, SIDES[most.argmax(axis=1)], 0.5)


def dawid_skene(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> np.ndarray:
    """Return P(second) + P(tie) / 2 by Dawid and Skene (1979), with an error matrix per annotator.

    Arguments and result as in `mean`. The model is crowd-kit's (extra `people`); `UserError` if it is not installed.
    """
    need("people", "crowdkit", where="aggregate: 'dawid-skene'")
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    votes = pd.DataFrame({"task": pair, "worker": annotator, "label": side(label)})
    chances = DawidSkene(n_iter=_ROUNDS).fit_predict_proba(votes).reindex(range(pairs))
    return (chances * SIDES[chances.columns.to_numpy(dtype=np.int64)]).sum(axis=1).to_numpy()


def one_coin(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> np.ndarray:
    """Return P(second) + P(tie) / 2 by the same model with one error rate per annotator and a prior on it
    (`consensus`).

    Arguments and result as in `mean`. With few votes it is less overconfident than `dawid_skene`.
    """
    annotators = int(annotator.max(initial=-1)) + 1
    return consensus(pair, annotator, side(label), annotators, np.full(pairs, -1)).posterior @ SIDES


AGGREGATES: Mapping[str, Aggregate] = {
    "majority": majority,
    "mean": mean,
    "dawid-skene": dawid_skene,
    "one-coin": one_coin,
}


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
