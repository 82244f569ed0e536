"""Aggregation of the votes on a pair to one label, P(second preferred), and agreement of annotators.

A vote v is a number with a side: first (v < 1/2), tie (v = 1/2) or second (v > 1/2). `mean` uses the numbers, the other
methods use the sides.

`consensus` fits Dawid and Skene's model with one error rate per annotator. An annotator of reliability r votes for the
true side k with probability r, and for another side l with probability (1 - r) wrong[k, l]. The directions of errors
are common to all annotators. The prior on r (`PRIOR`, a Beta distribution) keeps the posterior calibrated with few
votes: maximum likelihood is certain of every pair with one vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: P(second preferred) of the sides 0, 1, 2.
SIDES = np.array([0.0, 0.5, 1.0])
#: Prior counts of right and wrong votes of each annotator, and the mean of this prior.
PRIOR = (6.0, 2.0)
PRIOR_RELIABILITY = PRIOR[0] / sum(PRIOR)
#: Prior counts of pairs of each side, and of errors of each kind.
_SIDES, _ERRORS = 1.0, 2.0
_ROUNDS, _STILL = 200, 1e-4
_SIDE_OF = {"first": 0, "tie": 1, "second": 2}

#: (pair, annotator, label) of votes without skips and repeats.
Votes = Sequence[tuple[int, str, str]]


class Aggregated(NamedTuple):
    """Labels of pairs, float64 [P], and the side of each, int64 [P]: 0, 1 or 2 (first, tie, second)."""

    label: np.ndarray
    side: np.ndarray


Aggregate = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Aggregated]


@dataclass(frozen=True, eq=False)
class Model:
    """share float64 [3]: of pairs that are first, tie, second. wrong [3, 3]: P(l | an error on k), 0 for l = k."""

    share: np.ndarray
    wrong: np.ndarray

    def posterior(self, pair: np.ndarray, side: np.ndarray, r: np.ndarray, pairs: int) -> np.ndarray:
        """Return P(true side | votes), float64 [pairs, 3].

        pair int64 [V], side int64 [V] (0, 1, 2) and r [V], the annotator's reliability in (0, 1), belong to V votes.
        """
        log = np.tile(np.log(self.share), (pairs, 1))
        for k in range(3):
            chance = np.where(side == k, r, (1 - r) * self.wrong[k, side])
            log[:, k] += np.bincount(pair, np.log(chance), minlength=pairs)
        joint = np.exp(log - log.max(axis=1, keepdims=True))
        return joint / joint.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Consensus:
    """reliability float64 [A] of annotators, posterior float64 [P, 3] of pairs, and the model that they share."""

    reliability: np.ndarray
    posterior: np.ndarray
    model: Model


def consensus(
    pair: np.ndarray, annotator: np.ndarray, side: np.ndarray, annotators: int, known: np.ndarray
) -> Consensus:
    """Fit by expectation and maximization. pair, annotator and side int64 [V] belong to V votes.

    `known` int64 [P] is the true side of each pair, or -1. Every pair needs a vote.
    """
    right, wrong = PRIOR
    r, model = np.full(annotators, PRIOR_RELIABILITY), Model(np.full(3, 1 / 3), (1 - np.eye(3)) / 2)
    votes = np.bincount(annotator, minlength=annotators)
    fixed = np.flatnonzero(known >= 0)
    for _ in range(_ROUNDS):
        posterior = model.posterior(pair, side, r[annotator], len(known))
        posterior[fixed] = np.eye(3)[known[fixed]]
        before = r
        r = (np.bincount(annotator, posterior[pair, side], minlength=annotators) + right) / (votes + right + wrong)
        share = posterior.sum(axis=0) + _SIDES
        counts = np.stack([np.bincount(side, posterior[pair, k], minlength=3) for k in range(3)])
        errors = (counts + _ERRORS) * (1 - np.eye(3))
        model = Model(share / share.sum(), errors / errors.sum(axis=1, keepdims=True))
        if np.abs(r - before).max(initial=0.0) < _STILL:
            break
    return Consensus(r, posterior, model)


@dataclass(frozen=True, eq=False)
class VoteScores:
    """reliability: of annotators with votes, by the model. gold: known labels by pair."""

    reliability: Mapping[str, float]
    model: Model
    gold: Mapping[int, str]

    @classmethod
    def fit(cls, votes: Votes, gold: Mapping[int, str]) -> VoteScores:
        """Return the scores of these votes."""
        ids, pair = np.unique([pair for pair, _, _ in votes], return_inverse=True)
        names, annotator = np.unique([who for _, who, _ in votes], return_inverse=True)
        known = np.array([_SIDE_OF[gold[one]] if one in gold else -1 for one in ids.tolist()], np.int64)
        agreed = consensus(pair, annotator, _sides(votes), len(names), known)
        return cls(dict(zip(names.tolist(), agreed.reliability.tolist(), strict=True)), agreed.model, gold)

    def decided(self, votes: Votes, at: float) -> set[int]:
        """Return the pairs of these votes with a known label, or with a label of probability `at` by their votes."""
        ids, pair = np.unique([pair for pair, _, _ in votes], return_inverse=True)
        r = np.array([self.reliability.get(who, PRIOR_RELIABILITY) for _, who, _ in votes])
        highest = self.model.posterior(pair, _sides(votes), r, len(ids)).max(axis=1)
        return {one for one, p in zip(ids.tolist(), highest.tolist(), strict=True) if p >= at or one in self.gold}


def _sides(votes: Votes) -> np.ndarray:
    return np.array([_SIDE_OF[label] for _, _, label in votes], np.int64)


def side(label: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 (first, tie, second) for labels in [0, 1], int64."""
    return (np.sign(label - 0.5) + 1).astype(np.int64)


def mean(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> Aggregated:
    """Return the mean votes. Arguments for V votes: pair and annotator int64 [V] from 0, label [V].

    Every pair needs a vote.
    """
    means = np.bincount(pair, label, minlength=pairs) / np.bincount(pair, minlength=pairs)
    return Aggregated(means, side(np.round(means, 6)))  # votes are float32


def majority(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> Aggregated:
    """Return the side with most votes, or a tie if several sides have most votes. Arguments and result as in `mean`."""
    counts = np.zeros((pairs, 3))
    np.add.at(counts, (pair, side(label)), 1)
    most = counts == counts.max(axis=1, keepdims=True)
    chosen = np.where(most.sum(axis=1) == 1, most.argmax(axis=1), 1)
    return Aggregated(SIDES[chosen], chosen)


def one_coin(pair: np.ndarray, annotator: np.ndarray, label: np.ndarray, pairs: int) -> Aggregated:
    """Return P(second) + P(tie) / 2 by `consensus`, and the likeliest side. Arguments and result as in `mean`."""
    annotators = int(annotator.max(initial=-1)) + 1
    posterior = consensus(pair, annotator, side(label), annotators, np.full(pairs, -1)).posterior
    return Aggregated(posterior @ SIDES, posterior.argmax(axis=1))


AGGREGATES: Mapping[str, Aggregate] = {"majority": majority, "mean": mean, "one-coin": one_coin}


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


def disagreement(annotator: np.ndarray, voted: np.ndarray, side: np.ndarray, annotators: int) -> np.ndarray:
    """Return the share of each annotator's votes on another side than the label of their pair, float64 [annotators].

    annotator int64 [V], the side `voted` [V] and the `side` of the pair's label [V] belong to V votes. NaN without
    votes.
    """
    votes = np.bincount(annotator, minlength=annotators)
    return np.bincount(annotator, voted != side, minlength=annotators) / np.where(votes > 0, votes, np.nan)
