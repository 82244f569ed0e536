"""The weights of items, of what is said of them in a state: Q or a density, expected answers, likeness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np

from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.networks.answers import explaining

#: Answers that k items are expected to draw in each state: float32 [n, S] and [n, k, A] -> [n, k, F].
Expected: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Scorer(Protocol):
    """Says how good items are: Q, or the log-density of an actor, which has a scale of its own."""

    standardised: ClassVar[bool]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""


class Reading(NamedTuple):
    """What makes logits of what is said of the items of n states."""

    scale: np.ndarray  # [n, 1]
    answers: np.ndarray | None  # float32 [n, F]: what each expected answer is worth; None: scores are the scorer's


@dataclass(frozen=True)
class Weighing:
    """Scores of `scorer`, or what `answers` explain of them, in units of their scale, less `variety` by `recent`."""

    serving: ServingSettings
    scorer: Scorer
    recent: RecentItems | None = None
    answers: Expected | None = None

    def __call__(
        self, states: np.ndarray, candidates: np.ndarray, reading: Reading | None = None
    ) -> tuple[np.ndarray, Reading]:
        """The logarithms [n, k] of the weights of k items, by embeddings [n, k, A] or the same for all, [k, A]; and how
        scores are read, as these items say where it is not given."""
        of_each = candidates if candidates.ndim == 3 else np.broadcast_to(candidates, (len(states), *candidates.shape))
        scores, worth = self._scores(states, of_each, reading)
        reading = Reading(self._scale(scores), worth) if reading is None else reading
        logits = scores / reading.scale
        if self.recent is not None and self.scorer.standardised and self.serving.variety:
            per_likeness = np.float32(float(self.serving.variety) / float(self.serving.temperature))
            logits -= per_likeness * self.recent.likeness(states, candidates)
        return logits, reading

    def _scores(
        self, states: np.ndarray, candidates: np.ndarray, reading: Reading | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """[n, k], and what answers are worth in them, [n, F]; None where scores are the scorer's own."""
        if self.answers is None:
            return self.scorer.scores(states, candidates), None
        answers = self.answers(states, candidates)
        worth = None if reading is None else reading.answers
        if worth is None:
            worth = explaining(answers, self.scorer.scores(states, candidates))
        return (answers @ worth[..., None])[..., 0], worth

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """[n, 1]; 1 where all items score the same, and of a density."""
        if not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, float(self.serving.temperature) * deviation, 1.0)
