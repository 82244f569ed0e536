"""Servers that choose the items without a policy: controls, and the logging policy of the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np

from prefrec_ray.mdp.items import smallest
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.law import Choice, Cost, SimulatedCrowd

BEST_ITEMS = 10  # number of items among which a control with the hidden state chooses
FORESIGHT = 2.0  # of `nutrition`
#: Above this number of items, propensities are computed with groups of items of similar clickbait degree.
_GROUPS = 256
#: Step of the trapezoidal rule in the logarithm of t: its error is of the order of exp(-pi^2 / step).
_STEP = 0.75


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


class LoggedItems(IgnoresFeedback):
    """Serves each user the user's `items` (rows of the world) in their order, again from the start at the end."""

    def __init__(self, items: Sequence[np.ndarray]) -> None:
        self.length = np.array([len(own) for own in items])
        self.start, self.items, self.step = np.cumsum(self.length) - self.length, np.concatenate(items), 0

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        rows = self.items[self.start + self.step % self.length]
        self.step += 1
        return Choice(rows, 1.0)


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
    cost, tiring = crowd.clickbait(), crowd.world.settings.world.tiring
    return cost + 0.5 * FORESIGHT * tiring * crowd.likeness() if tiring else cost


def clickbait(crowd: Crowd) -> np.ndarray:
    """Return the negative clickbait degree of each item for each user, [n, items]."""
    return -crowd.clickbait()


class LoggingPolicy(IgnoresFeedback):
    """Serves `crowd` with knowledge of its tastes."""

    def __init__(self, crowd: Crowd, rng: np.random.Generator) -> None:
        self.crowd, self.world, self.rng = crowd, crowd.world, rng
        self.strength = np.empty(len(crowd.time_ms), np.float32)
        self.remaining = np.zeros(len(crowd.time_ms), np.int64)
        self._below: np.ndarray | None = None
        self._slates = SlatePropensity(crowd.world.clickbait, crowd.traits.taste, crowd.world.slate)

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        self._change_regimes()
        of_all = excluded is not None or self.crowd.law.drift
        return self._from_all(excluded) if of_all else self._from_slate(self.world.slate)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Count the impression: a page, whose items are served one after another, has one strength."""
        self.remaining -= 1

    def _from_slate(self, size: int) -> Choice:
        shape = (len(self.strength), size)
        slate = self.rng.integers(0, self.world.settings.items, shape, dtype=np.int32)
        # -log of a standard exponential is standard Gumbel: the largest sum is the smallest of these products.
        noise = self.rng.standard_exponential(shape, dtype=np.float32)
        degree = self.crowd.clickbait(slate)
        best = np.argmin(noise * np.exp(-self.strength[:, None] * degree), axis=1)
        user = np.arange(len(best))
        return Choice(slate[user, best].astype(np.int64), self._slates(self.strength, degree[user, best]))

    def _from_all(self, excluded: np.ndarray | None) -> Choice:
        # In place: for all items of many users, fresh memory would cost more than the sums.
        weight = self.crowd.clickbait()
        weight *= self.strength[:, None]
        weight -= np.maximum(self.strength, 0)[:, None]
        np.exp(weight, out=weight)
        if excluded is not None:
            np.multiply(weight, ~excluded, out=weight)
        if self._below is None:
            self._below = np.empty(weight.shape)
        below = np.cumsum(weight, axis=1, out=self._below)
        user, drawn = np.arange(len(below)), self.rng.random(len(below)) * below[:, -1]
        rows = (below > drawn[:, None]).argmax(axis=1)
        return Choice(rows, weight[user, rows] / below[:, -1])

    def _change_regimes(self) -> None:
        ended = np.flatnonzero(self.remaining == 0)
        if len(ended):
            self.strength[ended] = self.rng.uniform(*self.world.strength, len(ended))
            low, high = self.world.regime_requests
            self.remaining[ended] = self.rng.integers(low, high + 1, len(ended)) if self.world.settings.regimes else -1


class SlatePropensity:
    """Propensity of an item: `slate` items are drawn with replacement from I items, then one of them is shown.

    With w = exp(strength * degree) and the mean over all items f(t) = mean exp(-t w), the propensity is

        slate / I * E[w / (w + sum of the other w)] = slate / I * integral over t > 0 of w exp(-t w) f(t)^(slate - 1)

    because 1 / x = integral of exp(-t x) and the other items are independent. `degrees` [T, I] are clickbait degrees of
    the items per taste; `taste` [n] are the tastes of n users. f is recomputed only for users whose strength changed.
    """

    def __init__(self, degrees: np.ndarray, taste: np.ndarray, slate: int) -> None:
        groups = np.array_split(np.sort(degrees, axis=1), min(_GROUPS, degrees.shape[1]), axis=1)
        self._degree = np.stack([group.mean(axis=1) for group in groups], axis=1)
        self._share = np.array([group.shape[1] for group in groups], np.float32) / degrees.shape[1]
        self._taste, self._slate, self._items = taste, slate, degrees.shape[1]
        self._strength = np.full(len(taste), np.nan, np.float32)
        self._others = np.empty((len(taste), 0), np.float32)
        self._t = np.empty(0, np.float32)

    def __call__(self, strength: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Return probabilities [n], for each user's strength and the degree of the item shown (float32 [n])."""
        changed = np.flatnonzero(strength != self._strength)
        if len(changed):
            self._follow(strength, changed)
        weight = np.exp(strength * degree - np.maximum(strength, 0))[:, None]
        integrand = weight * self._t * np.exp(-weight * self._t) * self._others
        return np.minimum(self._slate / self._items * _STEP * integrand.sum(axis=1), 1.0)

    def _follow(self, strength: np.ndarray, changed: np.ndarray) -> None:
        # All weights lie between exp(-|strength|) and 1: from t = 1e-6 to 20 over the smallest.
        steps = int(np.ceil((17.0 + np.abs(strength).max()) / _STEP))
        if steps > len(self._t):
            self._t = np.exp(np.float32(_STEP) * np.arange(steps, dtype=np.float32) - 14)
            self._others, changed = np.empty((len(strength), steps), np.float32), np.arange(len(strength))
        own = strength[changed, None]
        weight = np.exp(own * self._degree[self._taste[changed]] - np.maximum(own, 0))
        mean = np.exp(-weight[:, None] * self._t[:, None]) @ self._share
        self._others[changed] = mean ** (self._slate - 1)
        self._strength = strength.copy()
