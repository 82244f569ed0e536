"""Scores of the votes so far: reliability of annotators, and decided pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.annotation.consensus import PRIOR_RELIABILITY, Model, consensus

_SIDES = {"first": 0, "tie": 1, "second": 2}

#: (pair, annotator, label) of votes without skips and repeats.
Votes = Sequence[tuple[int, str, str]]


@dataclass(frozen=True, eq=False)
class VoteScores:
    """reliability: of annotators with votes, by Dawid and Skene's model (consensus.py). gold: known labels by pair."""

    reliability: Mapping[str, float]
    model: Model
    gold: Mapping[int, str]

    @classmethod
    def fit(cls, votes: Votes, gold: Mapping[int, str]) -> VoteScores:
        """Return the scores of these votes."""
        pair, ids = _numbers([pair for pair, _, _ in votes])
        annotator, names = _numbers([who for _, who, _ in votes])
        known = np.array([_SIDES[gold[one]] if one in gold else -1 for one in ids], np.int64)
        agreed = consensus(pair, annotator, _sides(votes), len(names), known)
        return cls(dict(zip(names, agreed.reliability.tolist(), strict=True)), agreed.model, gold)

    def decided(self, votes: Votes, at: float) -> set[int]:
        """Return the pairs of these votes with a known label, or with a label of probability `at` by their votes."""
        pair, ids = _numbers([pair for pair, _, _ in votes])
        r = np.array([self.reliability.get(who, PRIOR_RELIABILITY) for _, who, _ in votes])
        highest = self.model.posterior(pair, _sides(votes), r, len(ids)).max(axis=1)
        return {one for one, p in zip(ids, highest.tolist(), strict=True) if p >= at or one in self.gold}


def _sides(votes: Votes) -> np.ndarray:
    return np.array([_SIDES[label] for _, _, label in votes], np.int64)


def _numbers(values: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """Return the number of each value, int64 [n], and the values by number."""
    number = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return np.array([number[value] for value in values], np.int64), list(number)
