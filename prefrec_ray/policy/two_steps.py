"""Draw of items from a large catalogue in two steps, cells and then items, with thousands of scores, not a million."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prefrec_ray.mdp.catalogue import Cells
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.plackett_luce import draw
from prefrec_ray.policy.weighing import Situations, Weighing

#: Number of cells whose items are all scored to find the best: the cells with the best representatives.
TRIED = 64


@dataclass(frozen=True)
class TwoSteps:
    """Two-step draw of items from `cells`.

    First a cell is drawn, by the number of its remaining items times the weight of its representative; then one of its
    items, by its own weight.
    """

    cells: Cells
    weigh: Weighing

    def draw(self, at: Situations, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw k items for each state; return rows int64 [n, k] and probabilities given the earlier rows, [n, k]."""
        n, cells, every = len(at), self.cells, np.arange(len(at))
        scores, scale = self.weigh(at.states, cells.representatives)
        remaining = self._remaining(at)
        rows, known = np.empty((n, k), np.int64), np.empty((n, k))
        for position in range(k):
            if position == 0 or self.weigh.penalises:
                appeal = self._appeal(scores, at)
            cell, of_cell = draw(appeal * remaining, rng)
            left = self._left(cell, at.excluded, rows[:, :position])
            weight = self._in_cell(at, cell, left, scale)
            column, of_item = draw(weight, rng)
            rows[:, position], known[:, position] = cells.members[cell][every, column], of_cell * of_item
            left[every, column] = False
            remaining[every, cell] = left.sum(axis=1)
            at = self.weigh.after(at, rows[:, position])
        return rows, known

    def best(self, at: Situations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return items that may be the best k, rows int64 [n, m], and their scaled scores [n, m], -inf if excluded.

        They are the items of the `TRIED` cells with the best representatives (more cells if k items need them).
        """
        out = at.excluded
        scores, scale = self.weigh(at.states, self.cells.representatives)
        logits = self.weigh.penalised(scores, at, self.cells.representatives)
        left = self._remaining(at)
        logits[left == 0] = -np.inf
        order = np.argsort(-logits, axis=1)
        short = np.cumsum(np.take_along_axis(left, order, axis=1), axis=1) < k
        cell = order[:, : max(TRIED, 1 + int(short.sum(axis=1).max()))]
        members = self.cells.members[cell]
        may = members >= 0
        if out is not None:  # by cells, as `ExcludedItems.hits` would take a third longer
            tried = np.full(logits.shape, -1)
            np.put_along_axis(tried, cell, np.arange(cell.shape[1])[None], axis=1)
            place = tried[out.state, self.cells.cell[out.item]]
            here = place >= 0
            may[out.state[here], place[here], self.cells.place[out.item[here]]] = False
        rows = members.reshape(len(at), -1)
        scores, _ = self.weigh(at.states, rows, scale)
        scores[~may.reshape(rows.shape)] = -np.inf
        return rows, scores

    def probabilities(self, at: Situations, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities, float64 [n], that the items `rows` [n] are drawn next."""
        scores, scale = self.weigh(at.states, self.cells.representatives)
        first = self._appeal(scores, at) * self._remaining(at)
        cell = self.cells.cell[rows]
        weight = self._in_cell(at, cell, self._left(cell, at.excluded, rows[:, None][:, :0]), scale)
        own = np.take_along_axis(weight, self.cells.place[rows][:, None], axis=1)[:, 0]
        of_item = np.divide(own, weight.sum(axis=1), out=np.zeros(len(rows)), where=own > 0)
        return np.take_along_axis(first, cell[:, None], axis=1)[:, 0] / first.sum(axis=1) * of_item

    def _appeal(self, scores: np.ndarray, at: Situations) -> np.ndarray:
        """Return the weight of each cell's representative, up to a factor, [n, M], from their scaled `scores`."""
        logits = self.weigh.penalised(scores, at, self.cells.representatives).astype(np.float64)
        # The floor keeps rounding from making a cell impossible.
        return np.maximum(np.exp(logits - logits.max(axis=1, keepdims=True)), 1e-300)

    def _remaining(self, at: Situations) -> np.ndarray:
        """Return the number of items of each cell that are not excluded, int64 [n, M]."""
        count, out = np.tile(self._sizes, (len(at), 1)), at.excluded
        if out is not None and len(out.item):
            place = out.state * count.shape[1] + self.cells.cell[out.item]
            count -= np.bincount(place, minlength=count.size).reshape(count.shape)
        return count

    def _left(self, cell: np.ndarray, out: ExcludedItems | None, drawn: np.ndarray) -> np.ndarray:
        """Return a mask [n, W] of the members of one `cell` [n] per state that are not excluded or `drawn` [n, m]."""
        left = self.cells.members[cell] >= 0
        gone = np.arange(len(cell)).repeat(drawn.shape[1]), drawn.ravel()
        for state, item in (gone, *([(out.state, out.item)] if out else [])):
            here = self.cells.cell[item] == cell[state]
            left[state[here], self.cells.place[item[here]]] = False
        return left

    def _in_cell(self, at: Situations, cell: np.ndarray, left: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the weights [n, W] of the members of one `cell` [n] per state, up to a factor; 0 if not `left`."""
        members = self.cells.members[cell]
        scores, _ = self.weigh(at.states, members, scale)
        logits = self.weigh.penalised(scores, at, members).astype(np.float64)
        logits[~left] = -np.inf
        return np.exp(logits - logits.max(axis=1, keepdims=True))

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Return the number of items of each cell, int64 [M]."""
        return np.bincount(self.cells.cell, minlength=len(self.cells.members))
