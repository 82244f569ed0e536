"""Aggregation of the votes on a pair to one label, P(second preferred).

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
    unknown = np.full(pairs, -1), np.full(pairs, np.nan)
    return consensus(pair, annotator, side(label), annotators, *unknown).posterior @ SIDES


AGGREGATES: Mapping[str, Aggregate] = {
    "majority": majority,
    "mean": mean,
    "dawid-skene": dawid_skene,
    "one-coin": one_coin,
}
