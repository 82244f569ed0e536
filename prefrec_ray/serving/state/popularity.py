"""Draws before the first policy, from a distribution over the items that depends on no state: uniform or popularity."""

from __future__ import annotations

import numpy as np

from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.plackett_luce import plackett_luce
from prefrec_ray.policy.distribution import Candidates, Drawn

#: Numbers of one chunk of states in memory.
_AT_ONCE = 1 << 20


class Popularity:
    """Number of positive impressions of each item, by code: impressions with a value of feedback above 0."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)

    def add(self, codes: np.ndarray, counts: np.ndarray | int = 1) -> None:
        """Add `counts` to items, by their codes int64 [m], in any order and with repetitions."""
        missing = int(codes.max(initial=-1)) + 1 - len(self._counts)
        if missing > 0:
            self._counts = np.pad(self._counts, (0, missing + len(self._counts)))
        np.add.at(self._counts, codes, counts)

    def counts(self, items: int) -> np.ndarray:
        """Return a copy of the counts of the first `items` codes, int64 [items]."""
        known = self._counts[:items]
        return np.pad(known, (0, items - len(known)))


def draw_by_weight(weights: np.ndarray, k: int, excluded: ExcludedItems, seed: int) -> Drawn:
    """Draw k items without replacement for each of n states, in proportion to `weights` [I], all above 0.

    k items must not be excluded. A propensity is the weight of an item divided by the sum of the weights of all items
    that are neither excluded nor drawn before it.
    """
    logits, rng = np.log(weights), np.random.default_rng(seed)
    chunk = max(1, _AT_ONCE // len(logits))
    parts = []
    for start in range(0, excluded.states, chunk):
        out = excluded[start : start + chunk]
        of_states = np.tile(logits, (out.states, 1))
        of_states[out.state, out.item] = -np.inf
        parts.append(plackett_luce(of_states, k, rng))
    rows, propensities = zip(*parts, strict=True)
    return Drawn(np.concatenate(rows), np.concatenate(propensities))


def draw_candidates(weights: np.ndarray, candidates: Candidates, k: int, seed: int) -> Drawn:
    """Draw k candidates for one state in proportion to `weights` [I] times exp(prior). There must be k of them."""
    logits = np.log(weights[candidates.rows]) + candidates.prior
    columns, propensities = plackett_luce(logits[None], k, np.random.default_rng(seed))
    return Drawn(candidates.rows[columns], propensities)
