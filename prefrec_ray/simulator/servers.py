"""Servers that choose the items without a policy: controls, some with access to the hidden state."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from prefrec_ray.mdp.items import smallest
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.law import Choice, Cost, SimulatedCrowd

BEST_ITEMS = 10  # number of items among which a control with the hidden state chooses
FORESIGHT = 2.0  # of `nutrition`


class IgnoresFeedback:
    """A server that does not depend on feedback."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Ignore the feedback."""


class RandomItems(IgnoresFeedback):
    """Serves random items of the `items` items, if they are not excluded."""

    def __init__(self, items: int, rng: np.random.Generator) -> None:
        self.items, self.rng = items, rng

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        if excluded is None:
            return Choice(self.rng.integers(0, self.items, len(time_ms)), 1.0 / self.items)
        left = (~excluded).cumsum(axis=1)
        drawn = self.rng.integers(0, left[:, -1])
        return Choice((left > drawn[:, None]).argmax(axis=1), 1.0 / left[:, -1])


class FirstOf(IgnoresFeedback):
    """Serves the first item of `ranking` (rows of all items, int64 [items]) that is not excluded."""

    def __init__(self, ranking: np.ndarray) -> None:
        self.ranking = ranking

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        if excluded is None:
            return Choice(np.full(len(time_ms), self.ranking[0]), 1.0)
        return Choice(self.ranking[excluded[:, self.ranking].argmin(axis=1)], 1.0)


class OneOfBest(IgnoresFeedback):
    """Serves one of the BEST_ITEMS items with the lowest `cost` (float [n, items]) that are not excluded."""

    def __init__(self, crowd: SimulatedCrowd, cost: Cost, rng: np.random.Generator) -> None:
        self.crowd, self.cost, self.rng = crowd, cost, rng

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        return self._one_of_best(self.cost(self.crowd), excluded)

    def serve_pages(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None, k: int) -> Choice:
        """Return pages of k items for the `users`; see `PageServer`.

        Costs are of a copy of the crowd that has examined the items before. Otherwise a page would repeat what is best
        before it, for example five items of one topic.
        """
        imagined, everyone = deepcopy(self.crowd, {id(self.crowd.world): self.crowd.world}), np.arange(len(users))
        out = np.zeros((len(users), self.crowd.world.settings.items), bool) if excluded is None else excluded[users]
        shown, drawn = np.zeros(len(time_ms), np.int64), []
        for _ in range(k):
            drawn.append(self._one_of_best(self.cost(imagined)[users], out))
            shown[users] = drawn[-1].rows
            out[everyone, drawn[-1].rows] = True
            imagined.show(shown)
        rows = np.stack([choice.rows for choice in drawn], axis=1)
        return Choice(rows, np.broadcast_to([choice.propensity for choice in drawn], rows.shape))

    def _one_of_best(self, cost: np.ndarray, excluded: np.ndarray | None) -> Choice:
        count = cost.shape[1]
        if excluded is not None:
            cost[excluded] = np.inf
            count = (~excluded).sum(axis=1).min()
        best = smallest(cost, min(BEST_ITEMS, count))
        drawn = self.rng.integers(0, best.shape[1], len(best))
        return Choice(best[np.arange(len(best)), drawn], 1.0 / best.shape[1])


def nutrition(crowd: Crowd) -> np.ndarray:
    """Return the long-term cost of each item to satisfaction, [n, items]: clickbait degree plus fatigue.

    The similarity counts `FORESIGHT` times, because an item shown now also causes fatigue with later similar items.
    """
    cost, tiring = crowd.rules.clickbait(), crowd.world.settings.world.tiring
    return cost + 0.5 * FORESIGHT * tiring * crowd.rules.likeness() if tiring else cost


def clickbait(crowd: Crowd) -> np.ndarray:
    """Return the negative clickbait degree of each item for each user, [n, items]."""
    return -crowd.rules.clickbait()
