"""Distribution pi(i | s, E) over the items that are not excluded, from which a policy serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import EXACT, ItemTable, smallest
from prefrec_ray.mdp.plackett_luce import log_sum_exp, plackett_luce
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.networks.actors import Density
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.two_steps import TRIED, TwoSteps
from prefrec_ray.policy.weighing import RecentItems, Situations, Weighing

#: Excluded items: n arrays of ids, or bool [n, I].
Exclude: TypeAlias = Sequence[np.ndarray] | np.ndarray | None
#: Numbers of one chunk of rows in memory: scores and masks.
_AT_ONCE = 1 << 20


class Drawn(NamedTuple):
    """Rows of the item table, int64 [n, k], and the probability of each given the rows before it, float64 [n, k]."""

    rows: np.ndarray
    propensities: np.ndarray


class Candidates(NamedTuple):
    """Items that may be drawn in one state: rows of the item table, int64 [m], each once, and their log priors [m]."""

    rows: np.ndarray
    prior: np.ndarray


@dataclass(frozen=True)
class Distribution:
    """Distribution over `items` under the rule `serving`, by the scores of `scorer` (None: by distance to an action).

    `sample` is Plackett-Luce: the weight of an item is exp(score / scale). The scale is `temperature` standard
    deviations of the scores over the items of a state; penalties for items like recent ones, and like those before on
    the page, are subtracted (weighing.py). Scores of hundreds of items are interpolated (landmarks.py).
    Above `EXACT` items, the draw and `best` have two steps (two_steps.py). Propensities belong to the actual draw.
    """

    items: ItemTable
    serving: ServingSettings
    scorer: Critic | Density | None
    likeness: RecentItems | None = None

    def draw(self, everyone: Situations, actions: np.ndarray, k: int, rng: np.random.Generator) -> Drawn:
        """Draw k items for each of n situations; `actions` [n, A] are the actor's actions.

        Raises `UserError` if k is not between 1 and the number of remaining items.
        """
        left = self._check(k, everyone)
        chunk = max(1, _AT_ONCE // (self._scored * 8))
        parts = []
        for start in range(0, len(everyone), chunk):
            rows = slice(start, start + chunk)
            at = everyone[rows]
            if self.serving.candidates == "nearest":
                parts.append(self._near(at, actions[rows], k, left[rows], rng))
            elif self._exact:
                parts.append(self._in_turn(at, None, self._scores(at), k, rng))
            elif self.serving.rule == "best":
                candidates, scores = self._two_steps.best(at, k)
                parts.append(self._in_turn(at, candidates, scores, k, rng))
            else:
                parts.append(Drawn(*self._two_steps.draw(at, k, rng)))
        if not parts:
            return Drawn(np.empty((0, k), np.int64), np.empty((0, k)))
        return Drawn(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def draw_among(
        self, one: Situations, action: np.ndarray, candidates: Candidates, k: int, rng: np.random.Generator
    ) -> Drawn:
        """Draw k of m candidates in one situation without excluded items; `action` [1, A] is the actor's action.

        The prior of an item, for example the log score of a retriever, is added to its log weight:

            w(i) = score(i) / scale - penalties(i) + prior(i)

        Under `sample` the propensity of an item is exp(w) as a share of the sum over the candidates that are left at
        its position. `best` draws the largest w. With `nearest`, the `count` candidates nearest to the action are
        weighted; if `count` is 1, priors have no effect. Raises `UserError` if k is not between 1 and m.
        """
        rows, prior = candidates
        if not 1 <= k <= len(rows):
            raise UserError(f"found k = {k}; expected 1 to {len(rows)}, the number of candidates")
        at = one[:]
        if self.serving.candidates == "nearest":
            count = min(self.serving.count, len(rows))
            away = np.square(self.items.embeddings[rows] - action).sum(axis=1)
            near = smallest(away[None], max(k, count))
            return self._of_nearest(at, rows[near], k, count, rng, prior[near[:, :count]])
        scores = self._weigh(at.states)[0][:, rows] if self._exact else self._weigh.among(at.states, rows)
        return self._in_turn(at, rows[None], scores, k, rng, prior)

    def _in_turn(
        self,
        at: Situations,
        rows: np.ndarray | None,
        scores: np.ndarray,
        k: int,
        rng: np.random.Generator,
        prior: np.ndarray | float = 0.0,
    ) -> Drawn:
        """Draw k of the items `rows` [n, m] (None: all) by their scaled `scores` [n, m], -inf for excluded items.

        At each position, the items drawn before count as shown. Their effect on the weights is in the propensities.
        """
        n, at_once = len(at), 1 if self._weigh.penalises else k
        columns, known, page = np.empty((n, 0), np.int64), np.empty((n, 0)), np.empty((n, 0), np.int64)
        while columns.shape[1] < k:
            logits = self._weigh.penalised(scores, at, rows).astype(np.float64) + prior
            np.put_along_axis(logits, columns, -np.inf, axis=1)
            if self.serving.rule == "best":
                column, probability = smallest(-logits, at_once), np.ones((n, at_once))
            else:
                column, probability = plackett_luce(logits, at_once, rng)
            drawn = column if rows is None else np.take_along_axis(rows, column, axis=1)
            columns, known, page = (
                np.concatenate(pair, axis=1) for pair in ((columns, column), (known, probability), (page, drawn))
            )
            at = self._weigh.after(at, drawn[:, -1])
        return Drawn(page, known)

    @property
    def _scored(self) -> int:
        """Return the number of items that are scored for one state and position."""
        if self.serving.candidates == "nearest":
            return self.serving.count
        if self._exact:
            return len(self.items)
        members = self.items.cells.members
        return TRIED * members.shape[1] if self.serving.rule == "best" else len(members)

    @property
    def _exact(self) -> bool:
        """Return True if all items have a score in each state."""
        return len(self.items) <= EXACT

    def _near(self, at: Situations, actions: np.ndarray, k: int, left: np.ndarray, rng: np.random.Generator) -> Drawn:
        """Draw from the candidates nearest to the action, at most the `left` [n] items of each state."""
        counts = np.minimum(self.serving.count, left)
        drawn = Drawn(np.empty((len(at), k), np.int64), np.empty((len(at), k)))
        for count in np.unique(counts):  # one value, unless a state has few remaining items
            alike = np.flatnonzero(counts == count)
            part = at[alike]
            near = self.items.nearest(actions[alike], max(k, int(count)), part.excluded)
            drawn.rows[alike], drawn.propensities[alike] = self._of_nearest(part, near, k, int(count), rng)
        return drawn

    def _of_nearest(
        self,
        at: Situations,
        near: np.ndarray,
        k: int,
        count: int,
        rng: np.random.Generator,
        prior: np.ndarray | float = 0.0,
    ) -> Drawn:
        """Draw from the first `count` of the items `near` [n, max(k, count)] to the action, then take the next ones."""
        if count == 1 or self.scorer is None:
            return Drawn(near[:, :k], np.ones((len(at), k)))
        candidates, wanted = near[:, :count], min(k, count)
        drawn = self._in_turn(at, candidates, self._weigh(at.states, candidates)[0], wanted, rng, prior)
        rows = np.concatenate([drawn.rows, near[:, count:k]], axis=1)
        return Drawn(rows, np.concatenate([drawn.propensities, np.ones((len(at), k - wanted))], axis=1))

    def _scores(self, at: Situations) -> np.ndarray:
        """Return the scaled scores [n, I] of all items, -inf for excluded ones."""
        scores, _ = self._weigh(at.states)
        if at.excluded is not None:
            scores[at.excluded.state, at.excluded.item] = -np.inf
        return scores

    def probabilities(self, everyone: Situations, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities [n] that the items `rows` [n] are drawn next under `sample` from all items."""
        at = everyone[:]
        if not self._exact:
            return self._two_steps.probabilities(at, rows)
        logits = self._weigh.penalised(self._scores(at), at).astype(np.float64)
        return np.exp(np.take_along_axis(logits, rows[:, None], axis=1)[:, 0] - log_sum_exp(logits))

    @cached_property
    def _weigh(self) -> Weighing:
        assert self.scorer is not None
        return Weighing(self.serving, self.scorer, self.items, self.likeness)

    @cached_property
    def _two_steps(self) -> TwoSteps:
        return TwoSteps(self.items.cells, self._weigh)

    def _check(self, k: int, at: Situations) -> np.ndarray:
        """Check k, and return the number of remaining items per state, int64 [n]."""
        total = len(self.items)
        if not 1 <= k <= total:
            raise UserError(f"found k = {k}; expected 1 to {total}, the number of items")
        if at.excluded is None or not len(at):
            return np.full(len(at), total)
        left = self.left(at.excluded)
        if left.min() < k:
            raise UserError(
                f"found k = {k}; expected at most {left.min()}, the items left for row {left.argmin()} of the states"
            )
        return left

    def left(self, excluded: ExcludedItems) -> np.ndarray:
        """Return the number of remaining items per state, int64 [n]."""
        return len(self.items) - excluded.counts()


def excluded_items(exclude: Exclude, items: ItemTable, n: int) -> ExcludedItems | None:
    """Return the excluded rows of `items` for each of n states; unknown ids are ignored.

    Raises `UserError` for a mask of another shape, and for another number of arrays.
    """
    if exclude is None:
        return None
    if isinstance(exclude, np.ndarray) and exclude.dtype == bool:
        if exclude.shape != (n, len(items)):
            raise UserError(
                f"exclude: found a mask of shape {list(exclude.shape)}; expected [{n}, {len(items)}], one "
                f"column per item in the order of policy.items.ids"
            )
        return ExcludedItems.from_mask(exclude)
    if len(exclude) != n:
        raise UserError(f"exclude: found {len(exclude)} arrays of ids; expected {n}, one for each state")
    lengths = [len(ids) for ids in exclude]
    if not any(lengths):
        return ExcludedItems.from_rows([np.zeros(0, np.int64)] * n)
    rows = items.find(np.concatenate([np.asarray(ids) for ids in exclude if len(ids)]))
    return ExcludedItems.from_rows(np.split(rows, np.cumsum(lengths)[:-1]))
