"""Distribution pi(i | s, E) over the items that are not excluded, from which a policy serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import EXACT, ItemTable, smallest
from prefrec_ray.mdp.plackett_luce import OwnGenerators, RandomNumbers, log_sum_exp, plackett_luce
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.networks.actors import Density
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.two_steps import TRIED, TwoSteps
from prefrec_ray.policy.weighing import Penalties, RecentItems, Situations, Weighing

#: Excluded items: n arrays of ids, or bool [n, I].
Exclude: TypeAlias = Sequence[np.ndarray] | np.ndarray | None
#: Numbers of one chunk of rows in memory: scores and masks.
_AT_ONCE = 1 << 20
#: Candidates that are drawn from together: a few float64 arrays of this length fit in the cache of a core.
_IN_CACHE = 1 << 14
_NOTHING = np.zeros((1, 0), np.int64), np.zeros((1, 0))


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
        self,
        everyone: Situations,
        actions: np.ndarray,
        among: Sequence[Candidates],
        ks: Sequence[int],
        rngs: Sequence[np.random.Generator],
    ) -> list[Drawn]:
        """Draw `ks[i]` of the m candidates `among[i]` in each of n situations; `actions` [n, A] are the actor's.

        The prior of an item, for example the log score of a retriever, is added to its log weight:

            w(i) = score(i) / scale - penalties(i) + prior(i)

        Under `sample` the propensity of an item is exp(w) as a share of the sum over the candidates that are left at
        its position. `best` draws the largest w. With `nearest`, the `count` candidates nearest to the action are
        weighted; if `count` is 1, priors have no effect. Each situation has random numbers of its own, so that its
        draw depends only on its generator. Raises `UserError` if a k is not between 1 and m.
        """
        for candidates, k in zip(among, ks, strict=True):
            if not 1 <= k <= len(candidates.rows):
                raise UserError(f"found k = {k}; expected 1 to {len(candidates.rows)}, the number of candidates")
        sizes, drawn = np.array([len(candidates.rows) for candidates in among]), [Drawn(*_NOTHING)] * len(among)
        wanted = np.array(ks)
        order = np.lexsort((sizes, wanted == 1))
        for first, last in self._alike(sizes[order], wanted[order]):
            group = order[first:last]
            # A short draw is the beginning of a long one.
            k, mine = int(wanted[group].max()), [among[i] for i in group]
            page = self._draw_group(everyone[group], actions[group], mine, k, OwnGenerators([rngs[i] for i in group]))
            for at, i in enumerate(group.tolist()):
                drawn[i] = Drawn(page.rows[at : at + 1, : ks[i]], page.propensities[at : at + 1, : ks[i]])
        return drawn

    def _alike(self, sizes: np.ndarray, ks: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield ranges of situations that are drawn together, for ascending numbers of candidates `sizes` [n].

        All have as many candidates as the largest k, and arrays that are padded to the most candidates fit in the
        cache. Under `nearest` all have the same number of candidates that are weighted. Single items have other random
        numbers than pages.
        """
        first, count = 0, self.serving.count if self.serving.candidates == "nearest" else 1
        for at in range(1, len(sizes)):
            too_few = sizes[first] < max(ks[first : at + 1].max(), min(count, sizes[at]))
            if too_few or (ks[at] == 1) != (ks[first] == 1) or (at + 1 - first) * sizes[at] > _IN_CACHE:
                yield first, at
                first = at
        if len(sizes):
            yield first, len(sizes)

    def _draw_group(
        self, at: Situations, actions: np.ndarray, among: Sequence[Candidates], k: int, rng: OwnGenerators
    ) -> Drawn:
        """Draw k of the candidates of each situation, as `draw_among`; they are `_alike`."""
        if self.serving.candidates == "nearest":
            count = min(self.serving.count, len(among[0].rows))
            nearest, of_nearest = [], []
            for (rows, prior), action in zip(among, actions, strict=True):
                away = np.square(self.items.embeddings.take(rows, axis=0) - action).sum(axis=1)
                place = smallest(away[None], max(k, count))[0]
                nearest.append(rows[place])
                of_nearest.append(prior[place[:count]])
            return self._of_nearest(at, np.stack(nearest), k, count, rng, np.stack(of_nearest))
        if self._exact:
            of_all = self._weigh(at.states)[0]
            each = [scores[candidates.rows] for scores, candidates in zip(of_all, among, strict=True)]
        else:
            each = self._weigh.among(at.states, [candidates.rows for candidates in among])
        shape = len(among), len(among[-1].rows)
        rows, prior, scores = np.zeros(shape, np.int64), np.zeros(shape), np.full(shape, -np.inf, np.float32)
        for place, (candidates, of_candidates) in enumerate(zip(among, each, strict=True)):
            size = len(of_candidates)
            rows[place, :size], prior[place, :size], scores[place, :size] = *candidates, of_candidates
        return self._in_turn(at, rows, scores, k, rng, prior)

    def _in_turn(
        self,
        at: Situations,
        rows: np.ndarray | None,
        scores: np.ndarray,
        k: int,
        rng: RandomNumbers,
        prior: np.ndarray | float = 0.0,
    ) -> Drawn:
        """Draw k of the items `rows` [n, m] (None: all) by their scaled `scores` [n, m], -inf for excluded items.

        At each position, the items drawn before count as shown. Their effect on the weights is in the propensities.
        """
        penalties, at_once = Penalties(self._weigh, at, rows), 1 if self._weigh.penalises else k
        left, every, columns, known = scores.copy(), np.arange(len(at))[:, None], [], []
        for position in range(0, k, at_once):
            logits = penalties.subtracted(left) + np.asarray(prior, np.float64)
            if self.serving.rule == "best":
                column, probability = smallest(-logits, at_once), np.ones((len(at), at_once))
            else:
                column, probability = plackett_luce(logits, at_once, rng)
            columns.append(column)
            known.append(probability)
            if position + at_once < k:
                left[every, column] = -np.inf
                penalties.add(column[:, 0] if rows is None else rows[every, column][:, 0])
        place = np.concatenate(columns, axis=1)
        return Drawn(place if rows is None else rows[every, place], np.concatenate(known, axis=1))

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
        rng: RandomNumbers,
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
        left = total - at.excluded.counts()
        if left.min() < k:
            raise UserError(
                f"found k = {k}; expected at most {left.min()}, the items left for row {left.argmin()} of the states"
            )
        return left


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
