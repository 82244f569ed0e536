"""Density of an actor over actions, which scores items for methods with a stochastic actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from prefrec_ray.policy.networks.actors import DeterministicActor, GaussianActor


@dataclass(frozen=True)
class Density:
    """log of pi(a | s), up to a constant of the state.

    A `GaussianActor` has its own density. For a deterministic actor it is a Gaussian with standard deviation
    `deviation` around the action: the squared error of behavior cloning is its log-density.
    """

    actor: DeterministicActor
    deviation: float | None = None
    #: Scores are not divided by their standard deviation over the items, because a log density has a scale.
    standardised: ClassVar[bool] = False

    def effects(self, kinds: np.ndarray) -> None:
        """Return None: kinds of items add nothing to a density."""

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return scores float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        with torch.inference_mode():
            state, actions = torch.from_numpy(states), torch.tensor(candidates)
            if isinstance(self.actor, GaussianActor):
                return self.actor.log_density(state, actions).numpy()
            squares = (actions - self.actor(state)[:, None]).square().sum(-1)
            return (-0.5 * squares / self.deviation**2).numpy()  # type: ignore[operator]
