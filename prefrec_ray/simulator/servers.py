"""Servers that choose the items: a policy, and controls with access to the hidden state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prefrec_ray.mdp.items import ItemTable, smallest
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import Choice, Cost, SimulatedCrowd

BEST_ITEMS = 10  # number of items among which a control with the hidden state chooses
FORESIGHT = 2.0  # of `nutrition`


class ServedPolicy(Protocol):
    """A policy that can be rolled out, such as `prefrec_ray.policy.Policy`."""

    @property
    def items(self) -> ItemTable:
        """Return the items; their ids are rows of the world's table."""

    def serve(
        self,
        states: np.ndarray,
        k: int,
        exclude: Any = None,
        seed: int | None = None,
        recent: np.ndarray | None = None,
    ) -> Any:
        """Return item ids and propensities [n, k] for states float32 [n, S], except for `exclude`, bool [n, I].

        `recent`: kinds of the users' last impressions, from `StateTracker.recent`.
        """

    def tracker(self, user_features: Any) -> StateTracker:
        """Return a tracker of the policy's states for n users without history."""


class PolicyServer:
    """Serves a policy, whose inputs are the columns of a log. `features`: the user features, as strings."""

    def __init__(
        self,
        policy: ServedPolicy,
        features: Mapping[str, np.ndarray],
        rng: np.random.Generator,
        feedback: Sequence[str] = FEEDBACK,
    ) -> None:
        self.policy, self.tracker, self.rng, self.feedback = policy, policy.tracker(features), rng, feedback

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        seed = int(self.rng.integers(2**32))
        exclude = None if excluded is None else excluded[:, self.policy.items.ids]
        served = self.policy.serve(self.tracker.states(time_ms), 1, exclude, seed, self.tracker.recent())
        return Choice(served.items[:, 0], served.propensities[:, 0])

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        self.tracker.observe(time_ms, rows, dict(zip(self.feedback, feedback.T, strict=True)))


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
        cost = self.cost(self.crowd)
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
