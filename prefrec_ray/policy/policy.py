"""A policy: the distribution over items of a bundle, and draws from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.state import UserFeatures
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy.bundle import Bundle
from prefrec_ray.policy.distribution import Candidates, Distribution, Drawn, Exclude, excluded_items
from prefrec_ray.policy.weighing import RecentItems, Situations

#: Rows of one forward pass: large enough for the matrix product, small enough for the cache and for memory.
_CHUNK = 16_384
#: A coordinate counts as saturated within this share of the bounds' half-width from a bound.
_SATURATION = 0.01


class Served(NamedTuple):
    """Item ids [n, k], and the probability of each given the items before it, float64 [n, k]."""

    items: np.ndarray
    propensities: np.ndarray


class Placed(NamedTuple):
    """Diagnostics of actions [n, A].

    `saturated` bool [n, A]; `row` int64 [n], the item for each action; `distance` float32 [n], the Euclidean distance
    to the nearest item.
    """

    saturated: np.ndarray
    row: np.ndarray
    distance: np.ndarray


class Policy(Bundle):
    """A distribution over the items that are not excluded, for states of `state`, scaled by `normaliser`.

    `serving` is the rule. Items are scored by the `critic`. Without a critic they are scored by the density of the
    `actor`: its own, or for a deterministic actor a Gaussian with standard deviation `deviation` around its action.
    Without both, the item nearest to the action is always served. `provenance` is the origin of the policy: method,
    recipe, task, dataset, seed. Pickles as plain arrays.

    Raises `UserError` if widths disagree, or if the rule samples without scores of items.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_distribution"}

    @cached_property
    def _distribution(self) -> Distribution:
        if self.always_nearest:
            return Distribution(self.items, self.serving, None)
        likeness = RecentItems.find(self.state, self.normaliser, self.items)
        return Distribution(self.items, self.serving, self.scorer, likeness)

    def act(self, states: np.ndarray, seed: int = 0, recent: np.ndarray | None = None) -> np.ndarray:
        """Return actions float32 [n, A] for scaled states float32 [n, S]: the embeddings of items that it would serve.

        If it always serves the nearest item, these are the actor's own actions, within the bounds. `recent`: as in
        `serve`. Raises `UserError` for states of another width.
        """
        if self.always_nearest:
            return self._propose(states)
        return self.items.embeddings[self.draw(states, 1, None, seed, recent).rows[:, 0]]

    def place(self, actions: np.ndarray) -> Placed:
        """Return the diagnostics of actions [n, A] of this policy."""
        margin = _SATURATION * 0.5 * (self.high - self.low)
        saturated = (actions <= self.low + margin) | (actions >= self.high - margin)
        row = self.items.nearest(actions, 1)[:, 0]
        return Placed(saturated, row, np.linalg.norm(actions - self.items.embeddings[row], axis=1))

    def served_for(self, actions: np.ndarray) -> np.ndarray:
        """Return the embeddings [n, A] of the items served for `actions` [n, A] of this policy."""
        if not self.always_nearest:
            return actions  # already embeddings of items
        return self.items.embeddings[self.items.nearest(actions, 1)[:, 0]]

    def q(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return Q(s, a) float32 [n] for scaled states [n, S] and actions (embeddings of items) [n, A].

        Raises `UserError` if the policy has no critic, and for states of another width.
        """
        if self.critic is None:
            raise UserError("policy: found no critic; expected a policy of a method that learns Q")
        chosen = np.require(self._checked(states), dtype=np.float32, requirements=["C", "W"])
        return self.critic.scores(chosen, np.require(actions, dtype=np.float32, requirements=["C", "W"])[:, None])[:, 0]

    def serve(
        self,
        states: np.ndarray,
        k: int,
        exclude: Exclude = None,
        seed: int | None = None,
        recent: np.ndarray | None = None,
    ) -> Served:
        """Return k items for each of n scaled states [n, S], by the serving rule. k items must not be excluded.

        `exclude`: n arrays of excluded ids (unknown ids are ignored), or bool [n, I] in the order of `items.ids`, True
        for an excluded item. Exclusion comes before the choice of candidates. The same `seed` draws the same items;
        None uses a new seed. A propensity is the probability of an item given the state, the excluded items, and the
        items before it; 1 under the rule `best`. `recent`: kinds of the users' last impressions, int32 [n, MEMORY, K],
        from `tracker.recent()`, for the repetition penalty; None: no impressions. Raises `UserError` for another k,
        states of another width, or an `exclude` of another form.
        """
        drawn = self.draw(states, k, excluded_items(exclude, self.items, len(states)), seed, recent)
        return Served(self.items.ids[drawn.rows], drawn.propensities)

    @property
    def draws_from_all(self) -> bool:
        """Return True if any item that is not excluded can be drawn: `probabilities` are known, and all are above 0."""
        return self.serving.rule == "sample" and self.serving.candidates != "nearest"

    @property
    def penalises_repetition(self) -> bool:
        """Return True if choices depend on the kinds of a user's last impressions."""
        return self.serving.repetition != 0 and self.items.kind_codes is not None

    def probabilities(
        self,
        states: np.ndarray,
        rows: np.ndarray,
        excluded: ExcludedItems | None = None,
        recent: np.ndarray | None = None,
        page: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return pi(i | s) of the items in the `rows` [n], float64 [n]. Only for a policy that `draws_from_all`.

        `excluded`: items that may not be recommended. `page`: rows int64 [n, j] of the items before on the page, -1 for
        none, which are also `excluded`; `recent` contains their kinds. Raises `UserError` for other policies, or widths
        of states.
        """
        if not self.draws_from_all:
            raise UserError(
                "policy: found another rule; expected sample, without nearest candidates, for probabilities"
            )
        return self._distribution.probabilities(Situations(self._checked(states), excluded, recent, page), rows)

    def draw(
        self,
        states: np.ndarray,
        k: int,
        excluded: ExcludedItems | None,
        seed: int | None,
        recent: np.ndarray | None = None,
    ) -> Drawn:
        """Draw items as `serve`, in rows of the item table."""
        at, rng = Situations(states, excluded, recent), np.random.default_rng(seed)
        return self._distribution.draw(at, self._actions(states), k, rng)

    def draw_among(
        self,
        states: np.ndarray,
        among: Sequence[Candidates],
        ks: Sequence[int],
        seeds: Sequence[int],
        recent: np.ndarray | None = None,
    ) -> list[Drawn]:
        """Draw `ks[i]` items for each of n states from its own candidates `among[i]`, with a seed for each.

        Candidates have priors, and contain no excluded items (`Distribution.draw_among`).
        """
        at, rngs = Situations(states, None, recent), [np.random.default_rng(seed) for seed in seeds]
        return self._distribution.draw_among(at, self._actions(states), among, ks, rngs)

    def left(self, excluded: ExcludedItems) -> np.ndarray:
        """Return the number of items that are not excluded in each state, int64 [n]."""
        return len(self.items) - excluded.counts()

    def _actions(self, states: np.ndarray) -> np.ndarray:
        """Return the actions [n, A] if items near them are served; otherwise the states, which are then not used."""
        return self._propose(states) if self.serving.candidates == "nearest" else self._checked(states)

    def _checked(self, states: np.ndarray) -> np.ndarray:
        if states.ndim != 2 or states.shape[1] != self.state.width:
            raise UserError(f"policy: found states of shape {list(states.shape)}; expected [n, {self.state.width}]")
        return states

    def _propose(self, states: np.ndarray) -> np.ndarray:
        """Return the actor's own actions [n, A]."""
        self._checked(states)
        actions = np.empty((len(states), len(self.low)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(states), _CHUNK):
                rows = np.require(states[start : start + _CHUNK], dtype=np.float32, requirements=["C", "W"])
                actions[start : start + _CHUNK] = self.actor(torch.from_numpy(rows)).numpy()
        return actions

    def tracker(self, user_features: UserFeatures) -> StateTracker:
        """Return a tracker of this policy's states for n users without history, with their `user_features`."""
        return StateTracker(self.state, self.normaliser, self.items, user_features)
