"""Weights of items in a state, from scores (Q or a density) and similarity to recent items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.landmarks import Landmarks


class ItemScorer(Protocol):
    """Score of items: Q, or the log-density of an actor, which has its own scale."""

    standardised: ClassVar[bool]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return scores float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""


@dataclass(frozen=True)
class Weighing:
    """Scores of `scorer` in units of their scale, minus a diversity penalty: `variety` times similarity (`recent`)."""

    serving: ServingSettings
    scorer: ItemScorer
    recent: RecentItems | None = None

    def __call__(
        self,
        states: np.ndarray,
        candidates: np.ndarray,
        scale: np.ndarray | None = None,
        landmarks: Landmarks | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the log weights [n, k] of k items and the scale [n, 1] of their scores.

        Embeddings are [n, k, A], or [k, A] for all states. If no scale is given, it comes from these items. With
        `landmarks` of these items, only the landmarks are scored.
        """
        scored = candidates if landmarks is None else candidates[landmarks.rows]
        of_each = scored if scored.ndim == 3 else np.broadcast_to(scored, (len(states), *scored.shape))
        scores = self.scorer.scores(states, of_each)
        if not np.isfinite(scores).all():
            raise UserError("policy: found a score that is not finite; expected networks and states of usual size")
        scores = scores if landmarks is None else scores @ landmarks.weights
        scale = self._scale(scores) if scale is None else scale
        logits = scores / scale
        if self.recent is not None and self.scorer.standardised and self.serving.variety:
            per_likeness = np.float32(float(self.serving.variety) / float(self.serving.temperature))
            logits -= per_likeness * self.recent.likeness(states, candidates)
        return logits, scale

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """Return the scale [n, 1]: 1 for a density, and if all items have the same score."""
        if not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, float(self.serving.temperature) * deviation, 1.0)
