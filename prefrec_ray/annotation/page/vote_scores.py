"""Scores of the votes so far: reliability of annotators, decided pairs, and the order of the next questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.annotation.consensus import PRIOR, Model, consensus
from prefrec_ray.annotation.page.choose import bald, drawn, fit, preferred, unseen

SIDES = {"first": 0, "tie": 1, "second": 2}
#: (pair, annotator, label) of votes without skips and repeats.
Votes = Sequence[tuple[int, str, str]]


@dataclass(frozen=True, eq=False)
class VoteScores:
    """reliability: by annotator. posterior [P, 3] and order: of the pairs. prior [P, 3]: before a pair's own votes.

    judged [P]: whether a pair has votes.
    """

    reliability: Mapping[str, float]
    model: Model
    prior: np.ndarray
    posterior: np.ndarray
    order: list[int]
    rows: Mapping[int, int]
    judged: np.ndarray

    def decided(self, pair: int, labels: Sequence[tuple[str, str]], at: float) -> bool:
        """Return whether a label has probability `at` given votes (annotator, label); False without votes."""
        if not labels:
            return False
        prior_mean = PRIOR[0] / sum(PRIOR)
        r = np.array([self.reliability.get(who, prior_mean) for who, _ in labels])
        side = np.array([SIDES[label] for _, label in labels])
        prior = self.prior[[self.rows[pair]]]
        return bool(self.model.posterior(np.zeros(len(side), np.int64), side, r, prior).max() >= at)

    def all_decided(self, at: float) -> set[int]:
        """Return the `decided` pairs by the scored votes, and gold pairs with any vote."""
        sure = self.judged & (self.posterior.max(axis=1) >= at)
        return {pair for pair, row in self.rows.items() if sure[row]}


class VoteScorer:
    """The pairs, their known labels, and their features for a reward.

    features float32 [n, MEMBERS, WIDTH] are of the pairs `trained` (ids).
    """

    def __init__(
        self, pairs: Sequence[tuple[int, str | None]], trained: np.ndarray, features: np.ndarray, seed: int
    ) -> None:
        self._ids = [pair for pair, _ in pairs]
        self._row = {pair: row for row, pair in enumerate(self._ids)}
        self._known = np.array([-1 if gold is None else SIDES[gold] for _, gold in pairs], np.int64)
        self._trained = np.array([self._row[pair] for pair in trained.tolist()], np.int64)
        self._features, self._seed = features, seed

    def score(self, votes: Votes) -> VoteScores:
        """Score all votes again.

        First, labels are estimated from votes only. The ensemble learns these labels. The predictions of members for
        pairs that they were not trained on are then the prior of these pairs, and labels are estimated again.
        """
        pair = np.array([self._row[pair] for pair, _, _ in votes], np.int64)
        names, annotator = np.unique([who for _, who, _ in votes] or np.empty(0, str), return_inverse=True)
        side = np.array([SIDES[label] for _, _, label in votes], np.int64)
        second = np.full(len(self._ids), np.nan)
        agreed = consensus(pair, annotator, side, len(names), self._known, second)
        # Pairs without features are in random order.
        rng = np.random.default_rng(self._seed)
        worth = rng.random(len(self._ids))
        any_vote = np.bincount(pair, minlength=len(self._ids)) > 0
        judged = any_vote[self._trained]
        if judged.any():
            label = agreed.posterior[self._trained] @ np.array([0.0, 0.5, 1.0])
            weights, unseen_by = fit(self._features[judged], label[judged], self._seed)
            probability = preferred(self._features, weights)
            worth[self._trained] = np.argsort(np.argsort(drawn(bald(probability), rng))) / len(probability)
            new = np.ones_like(probability, bool)
            new[judged] = unseen_by
            second[self._trained] = unseen(probability, new)
            agreed = consensus(pair, annotator, side, len(names), self._known, second)
        reliability = dict(zip(names.tolist(), agreed.reliability.tolist(), strict=True))
        order = [self._ids[row] for row in np.argsort(-worth, kind="stable")]
        prior = agreed.model.prior(second)
        return VoteScores(reliability, agreed.model, prior, agreed.posterior, order, self._row, any_vote)
