"""Weights of items in a state, from scores (Q or a density) and penalties for items like recent ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.columns import closest
from prefrec_ray.mdp.exposure import repetitions
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy.landmarks import ALL_SCORED, Landmarks

#: Preferred half-life, in impressions, of the running mean with which an item is compared.
HALF_LIFE = 32.0


@dataclass(frozen=True)
class RecentItems:
    """Mean embedding of recent items: the `columns` [A] of a scaled state, times `std` plus `mean` [A]."""

    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def find(cls, state: StateDefinition, normaliser: Normaliser, items: ItemTable) -> RecentItems | None:
        """Find the running mean with the half-life nearest to `HALF_LIFE`; None if states have no running means.

        The mean is divided by the mean squared length of an item. One item repeated for hours then has a similarity of
        about 1 in any unit of the embeddings, and random items have about 0.
        """
        length = float(np.square(items.embeddings, dtype=np.float64).sum(axis=1).mean())
        if not state.item_half_lives or length == 0:
            return None
        start = state.groups["items"].start + closest(state.item_half_lives, HALF_LIFE) * state.action_dim
        columns = np.arange(start, start + state.action_dim)
        mean, std = (np.asarray(part, np.float64)[columns] / length for part in (normaliser.mean, normaliser.std))
        return cls(columns, mean.astype(np.float32), std.astype(np.float32))

    def likeness(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return similarities [n, k] of k items, [n, k, A] or [k, A], to the recent items in scaled states [n, S]."""
        shown = states[:, self.columns] * self.std + self.mean
        if candidates.ndim == 2:
            return shown @ candidates.T
        return (np.ascontiguousarray(candidates) @ shown[:, :, None])[..., 0]


class ItemScorer(Protocol):
    """Score of items: Q, or the log-density of an actor, which has its own scale."""

    standardised: ClassVar[bool]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return scores float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""

    def effects(self, kinds: np.ndarray) -> np.ndarray | None:
        """Return what the kinds int32 [I, K] of items add to their scores, float32 [I]; None: nothing."""


@dataclass(frozen=True)
class Weighing:
    """Log weights of `items`: scores of `scorer` in units of their scale, minus penalties.

    The diversity penalty is `variety` times the similarity to recent items (`likeness`). The repetition penalty is
    `repetition` times the number of recent impressions of the same kind. A density has no penalties.
    """

    serving: ServingSettings
    scorer: ItemScorer
    items: ItemTable
    likeness: RecentItems | None = None

    def __call__(
        self,
        states: np.ndarray,
        rows: np.ndarray | None = None,
        recent: np.ndarray | None = None,
        scale: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the log weights [n, k] of the items in `rows`, and the scale [n, 1] of their scores.

        `rows` are [n, k], or [k] for all states; None: all items, whose scores may be interpolated (landmarks.py).
        `recent`: kinds of each user's last impressions (`StateTracker.recent`); None: no impressions. If no scale is
        given, it comes from these items.
        """
        scores = self._scores(states, rows)
        scale = self._scale(scores) if scale is None else scale
        return self._log_weights(states, scores, scale, rows, recent), scale

    def among(self, states: np.ndarray, rows: np.ndarray, recent: np.ndarray | None = None) -> np.ndarray:
        """Return the log weights [n, m] of the candidates `rows` [m] from a large catalogue.

        The scale of scores comes from the landmarks, so that it does not depend on the candidates. More than
        `ALL_SCORED` candidates have interpolated scores.
        """
        landmarks = self._landmarks
        if landmarks is None:
            return self(states, rows, recent)[0]
        of_landmarks = self._score(states, landmarks.embeddings.astype(np.float32))
        scale = self._scale(self._with_effects(of_landmarks, landmarks.rows))
        if len(rows) <= ALL_SCORED:
            return self(states, rows, recent, scale)[0]
        scores = self._with_effects(landmarks.interpolate(of_landmarks, self.items.embeddings[rows]), rows)
        return self._log_weights(states, scores, scale, rows, recent)

    def _log_weights(
        self,
        states: np.ndarray,
        scores: np.ndarray,
        scale: np.ndarray,
        rows: np.ndarray | None,
        recent: np.ndarray | None,
    ) -> np.ndarray:
        """Return the scores [n, k] of the items in `rows` in units of `scale` [n, 1], minus penalties."""
        if not np.isfinite(scores).all():
            raise UserError("policy: found a score that is not finite; expected networks and states of usual size")
        logits = scores / scale
        if self.scorer.standardised:
            temperature = float(self.serving.temperature)
            if self.likeness is not None and self.serving.variety:
                per_likeness = np.float32(float(self.serving.variety) / temperature)
                logits -= per_likeness * self.likeness.likeness(states, self._embeddings(rows))
            if recent is not None and recent.shape[2] and self.serving.repetition:
                items, window = self._every if rows is None else rows, int(self.serving.repetition_window)
                counts = repetitions(recent, self.items.kinds, items, window)
                logits -= np.float32(float(self.serving.repetition) / temperature) * counts
        return logits

    def _scores(self, states: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Return the scores [n, k] of the items in `rows`."""
        landmarks = self._landmarks if rows is None else None
        if landmarks is None:
            scores = self._score(states, self._embeddings(rows))
        else:
            scores = self._score(states, landmarks.embeddings.astype(np.float32)) @ self._interpolation
        return self._with_effects(scores, rows)

    def _score(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the scores [n, k] of k items by their embeddings: [n, k, A], or [k, A] for all states."""
        of_each = candidates if candidates.ndim == 3 else np.broadcast_to(candidates, (len(states), *candidates.shape))
        return self.scorer.scores(states, of_each)

    def _with_effects(self, scores: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Return the scores [n, k] of the items in `rows`, plus the effects of their kinds."""
        if self._effects is None:
            return scores
        return scores + (self._effects if rows is None else self._effects[rows])

    def _embeddings(self, rows: np.ndarray | None) -> np.ndarray:
        """Return the embeddings of the items in `rows`; of all items without a copy, as every request needs them."""
        return self.items.embeddings if rows is None else self.items.embeddings[rows]

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """Return the scale [n, 1]: 1 for a density, and if all items have the same score."""
        if not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, float(self.serving.temperature) * deviation, 1.0)

    @cached_property
    def _every(self) -> np.ndarray:
        return np.arange(len(self.items))

    @cached_property
    def _effects(self) -> np.ndarray | None:
        return None if self.items.kind_codes is None else self.scorer.effects(self.items.kind_codes)

    @cached_property
    def _landmarks(self) -> Landmarks | None:
        """Return the landmarks; None if all items are scored. A density costs less than the interpolation."""
        return Landmarks.from_embeddings(self.items.embeddings) if self.scorer.standardised else None

    @cached_property
    def _interpolation(self) -> np.ndarray:
        """Return the matrix float32 [L, I] from the scores of the landmarks to the scores of all items."""
        assert self._landmarks is not None
        return self._landmarks.interpolate(np.eye(len(self._landmarks.rows)), self.items.embeddings)
