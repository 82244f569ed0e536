"""pi(i | s, E): the distribution over the items that may be shown, from which a policy serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.cells import Cells
from prefrec_ray.mdp.items import ItemTable, smallest
from prefrec_ray.mdp.plackett_luce import draw, log_sum_exp, plackett_luce
from prefrec_ray.mdp.serving import ServingSettings

#: Numbers of one chunk of rows that are held at once: scores and masks.
_AT_ONCE = 1 << 20


class Scorer(Protocol):
    """Says how good items are: Q, or the log-density of an actor, which has a scale of its own."""

    standardised: ClassVar[bool]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""


class Drawn(NamedTuple):
    """Rows of the item table, int64 [n, k], and the probability of each given those before it, float64 [n, k]."""

    rows: np.ndarray
    propensities: np.ndarray


@dataclass(frozen=True)
class Distribution:
    """How `serving` draws from `items` by the scores of `scorer` (None: by nearness to an action alone).

    `sample` is Plackett-Luce: the weight of an item is exp(score / scale), times the share of it in the log where
    candidates are `logged`. The scale is `temperature` standard deviations of the scores over the items, of a state.
    From more than `cells.ONE_CELL` items it draws in two steps: a cell, by the number of its items that are left times
    the mean weight of its representatives, then an item of it by its own weight. Propensities are those of the draw.
    """

    items: ItemTable
    serving: ServingSettings
    scorer: Scorer | None

    @cached_property
    def cells(self) -> Cells:
        """The items in cells."""
        return Cells.of(self.items.embeddings)

    @cached_property
    def weights(self) -> np.ndarray:
        """What each item counts before it is scored, float64 [I]."""
        if self.serving.candidates != "logged":
            return np.ones(len(self.items))
        if self.items.logged is None:
            raise UserError("serving: candidates 'logged', but the item table does not say how often the log shows one")
        return self.items.logged.astype(np.float64)

    @cached_property
    def _weights_of_cells(self) -> csr_array:
        """The weights [M, I], 0 outside a cell."""
        every = np.arange(len(self.items))
        return csr_array((self.weights, (self.cells.cell, every)), shape=(len(self.cells.members), len(every)))

    def draw(
        self, states: np.ndarray, actions: np.ndarray, k: int, left_out: np.ndarray | None, rng: np.random.Generator
    ) -> Drawn:
        """k items for each of n `states` [n, S], of which the actor's own are `actions` [n, A].

        `left_out`: bool [n, I], items that may not be shown; None: all may. Raises `UserError` for a k outside 1 to
        what is left.
        """
        left = self._check(k, left_out, len(states))
        width = len(self.items) if left_out is not None or k > 1 else self._scored
        chunk = max(1, _AT_ONCE // max(width, self._scored * 8))
        parts = []
        for start in range(0, len(states), chunk):
            rows = slice(start, start + chunk)
            out = None if left_out is None else left_out[rows]
            chosen = np.require(states[rows], dtype=np.float32, requirements=["C", "W"])
            if self.serving.candidates == "nearest":
                parts.append(self._near(chosen, actions[rows], k, left, out, rng))
            elif self.serving.rule == "best":
                parts.append(self._best(chosen, k, out))
            elif self.cells.single:
                parts.append(self._one_cell(chosen, k, out, rng))
            else:
                parts.append(self._two_steps(chosen, k, out, rng))
        if not parts:
            return Drawn(np.empty((0, k), np.int64), np.empty((0, k)))
        return Drawn(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @property
    def _scored(self) -> int:
        """Items that are scored for one state and position."""
        if self.serving.candidates == "nearest":
            return self.serving.count
        return len(self.items) if self.serving.rule == "best" else self.cells.representatives.size

    def _near(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        k: int,
        left: int,
        out: np.ndarray | None,
        rng: np.random.Generator,
    ) -> Drawn:
        """From the candidates nearest to the action, at most the `left`; beyond them the next nearest, for certain."""
        count = min(self.serving.count, left)
        near = self.items.nearest(actions, max(k, count), self.serving.metric, out)
        if count == 1 or self.scorer is None:
            return Drawn(near[:, :k], np.ones((len(states), k)))
        candidates, wanted = near[:, :count], min(k, count)
        scores = self.scorer.scores(states, self.items.embeddings[candidates])
        if self.serving.rule == "best":
            columns, known = smallest(-scores, wanted), np.ones((len(states), wanted))
        else:
            columns, known = plackett_luce(scores / self._scale(scores), wanted, rng)
        rows = np.concatenate([np.take_along_axis(candidates, columns, axis=1), near[:, count:k]], axis=1)
        return Drawn(rows, np.concatenate([known, np.ones((len(states), k - wanted))], axis=1))

    def _best(self, states: np.ndarray, k: int, out: np.ndarray | None) -> Drawn:
        scores = self._score(states, self.items.embeddings)
        scores[:, self.weights == 0] = -np.inf
        if out is not None:
            scores[out] = -np.inf
        return Drawn(smallest(-scores, k), np.ones((len(states), k)))

    def _one_cell(self, states: np.ndarray, k: int, out: np.ndarray | None, rng: np.random.Generator) -> Drawn:
        return Drawn(*plackett_luce(self._logits(states, out), k, rng))

    def _logits(self, states: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """The logarithms [n, I] of the weights of all items."""
        scores = self._score(states, self.items.embeddings)
        with np.errstate(divide="ignore"):
            logits = scores / self._scale(scores) + np.log(self.weights)
        if out is not None:
            logits[out] = -np.inf
        return logits

    def _two_steps(self, states: np.ndarray, k: int, out: np.ndarray | None, rng: np.random.Generator) -> Drawn:
        n, cells, every = len(states), self.cells, np.arange(len(states))
        appeal, scale = self._appeal(states)
        mass = self._mass(n, out)
        gone = out if k == 1 else np.zeros((n, len(self.items)), dtype=bool) if out is None else out.copy()
        rows, known = np.empty((n, k), np.int64), np.empty((n, k))
        for position in range(k):
            cell, of_cell = draw(appeal * mass, rng)
            members = cells.members[cell]
            weight = self._in_cell(states, members, scale, gone)
            column, of_item = draw(weight, rng)
            rows[:, position], known[:, position] = members[every, column], of_cell * of_item
            if gone is not None and position + 1 < k:
                gone[every, rows[:, position]] = True
                mass[every, cell] = self._left(members, gone).sum(axis=1)
        return Drawn(rows, known)

    def probabilities(self, states: np.ndarray, rows: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
        """float64 [n]: how likely the items `rows` [n] are to be drawn first under `sample` from all items."""
        if self.cells.single:
            logits = self._logits(states, left_out)
            return np.exp(np.take_along_axis(logits, rows[:, None], axis=1)[:, 0] - log_sum_exp(logits))
        appeal, scale = self._appeal(states)
        first = appeal * self._mass(len(states), left_out)
        cell = self.cells.cell[rows]
        members = self.cells.members[cell]
        weight = self._in_cell(states, members, scale, left_out)
        own = (weight * (members == rows[:, None])).sum(axis=1)
        of_item = np.divide(own, weight.sum(axis=1), out=np.zeros(len(rows)), where=own > 0)
        return np.take_along_axis(first, cell[:, None], axis=1)[:, 0] / first.sum(axis=1) * of_item

    def _appeal(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean weight of each cell's representatives, up to a factor, [n, M]; and the scale [n, 1]."""
        representatives = self.cells.representatives
        scores = self._score(states, self.items.embeddings[representatives.ravel()])
        scale = self._scale(scores)
        logits = (scores / scale).astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        # No cell loses its last chance to rounding.
        return np.maximum(weights.reshape(len(states), *representatives.shape).mean(axis=2), 1e-300), scale

    def _mass(self, n: int, out: np.ndarray | None) -> np.ndarray:
        """The weight of what is left in each cell, [n, M]."""
        if out is None:
            return np.tile(np.asarray(self._weights_of_cells.sum(axis=1)).ravel(), (n, 1))
        return np.ascontiguousarray((self._weights_of_cells @ (~out).T.astype(np.float64)).T)

    def _left(self, members: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """The weights of `members` [n, W] of one cell a state, 0 for what is left out."""
        weights = np.where(members >= 0, self.weights[members], 0.0)
        return weights if out is None else np.where(np.take_along_axis(out, members, axis=1), 0.0, weights)

    def _in_cell(
        self, states: np.ndarray, members: np.ndarray, scale: np.ndarray, out: np.ndarray | None
    ) -> np.ndarray:
        """The weights [n, W] of the `members` [n, W] of one cell a state, up to a factor."""
        assert self.scorer is not None
        logits = (self.scorer.scores(states, self.items.embeddings[members]) / scale).astype(np.float64)
        left = self._left(members, out)
        logits[left == 0] = -np.inf
        return left * np.exp(logits - logits.max(axis=1, keepdims=True))

    def _score(self, states: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Scores [n, k] of the same k items for every state."""
        assert self.scorer is not None
        return self.scorer.scores(states, np.broadcast_to(embeddings, (len(states), *embeddings.shape)))

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """[n, 1]; 1 where all items score the same, and of a density."""
        if self.scorer is not None and not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, self.serving.temperature * deviation, 1.0)

    @cached_property
    def _shown(self) -> np.ndarray:
        """Whether an item may be shown at all, bool [I]."""
        return self.weights > 0

    @cached_property
    def _total(self) -> int:
        return int(np.count_nonzero(self._shown))

    def _check(self, k: int, left_out: np.ndarray | None, n: int) -> int:
        """How many items are left for each state at least."""
        if not 1 <= k <= self._total:
            raise UserError(f"k = {k} items wanted; the item table holds {self._total}")
        if left_out is None or not n:
            return self._total
        if self._total < len(self.items):
            left = np.array([np.count_nonzero(self._shown & ~row) for row in left_out])
        else:  # row by row: NumPy counts a whole array twenty times as fast as along an axis
            left = self._total - np.array([np.count_nonzero(row) for row in left_out])
        if left.min() < k:
            raise UserError(
                f"k = {k} items wanted; {left.min()} of {self._total} are left for row {left.argmin()} of the states"
            )
        return int(left.min())
