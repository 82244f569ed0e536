"""The weights of items, of what is said of them in a state: Q or a density, and likeness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import ServingSettings


class Scorer(Protocol):
    """Says how good items are: Q, or the log-density of an actor, which has a scale of its own."""

    standardised: ClassVar[bool]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""


@dataclass(frozen=True)
class Weighing:
    """Scores of `scorer` in units of their scale, less `variety` by `recent`."""

    serving: ServingSettings
    scorer: Scorer
    recent: RecentItems | None = None

    def __call__(
        self, states: np.ndarray, candidates: np.ndarray, scale: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The logarithms [n, k] of the weights of k items, by embeddings [n, k, A] or the same for all, [k, A]; and the
        scale [n, 1] of their scores, as these items say where it is not given."""
        of_each = candidates if candidates.ndim == 3 else np.broadcast_to(candidates, (len(states), *candidates.shape))
        scores = self.scorer.scores(states, of_each)
        scale = self._scale(scores) if scale is None else scale
        logits = scores / scale
        if self.recent is not None and self.scorer.standardised and self.serving.variety:
            per_likeness = np.float32(float(self.serving.variety) / float(self.serving.temperature))
            logits -= per_likeness * self.recent.likeness(states, candidates)
        return logits, scale

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """[n, 1]; 1 where all items score the same, and of a density."""
        if not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, float(self.serving.temperature) * deviation, 1.0)
