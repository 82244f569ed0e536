"""How far the log can vouch for a policy: whether the log has been where the policy leads its users.

A log of requests says what an item does to users who have a past like the log's. A policy that shows a corner of the
catalogue for hours leads users to where no logged user has been, and nothing in the log says what happens there: where
people tire it harms, where they do not it may be the best there is (docs/evaluation.md). What a policy shows is in the
running means of item embeddings, a part of every state; of them it is asked how many lie within the log's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.evaluation.histories import Histories
from prefrec_ray.evaluation.imagined import KEPT_EVERY
from prefrec_ray.evaluation.settings import WARM
from prefrec_ray.mdp.state import StateDefinition

#: A state is within the log's if it is no farther from their mean than so large a share of them.
WITHIN = 0.99
#: The share of a policy's requests that must be within the log's. Between .4 and .6 a policy that gains nothing where
#: users tire was believed to gain a level and a half; at .9 and more the size was right (docs/results/truth.md).
THRESHOLD = 0.8


@dataclass(frozen=True)
class LoggedPasts:
    """The log's running means of items as one cloud: `centre` [C], `inverse` of their covariance [C, C], and the
    squared Mahalanobis distance `reach` that the share WITHIN of them keeps."""

    columns: slice
    centre: np.ndarray
    inverse: np.ndarray
    reach: float

    @classmethod
    def of(cls, data: Histories, state: StateDefinition) -> LoggedPasts:
        """From the requests of `data` as far in a user's history as those that are kept of roll-outs, where any are."""
        columns = state.groups["items"]
        step = np.arange(len(data.state)) - data.starts[data.user]
        late = np.flatnonzero((step >= WARM) & (step % KEPT_EVERY == 0))
        states = data.state[late] if len(late) else data.state
        pasts = states[:, columns].astype(np.float64)
        covariance = np.cov(pasts.T) + 1e-6 * np.eye(pasts.shape[1])
        cloud = cls(columns, pasts.mean(axis=0), np.linalg.inv(covariance), np.inf)
        return replace(cloud, reach=float(np.quantile(cloud.distance(states), WITHIN)))

    def distance(self, states: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances [n] of scaled states [n, S]."""
        away = states[:, self.columns] - self.centre
        return np.einsum("na,ab,nb->n", away, self.inverse, away)

    def share(self, states: np.ndarray) -> float:
        """The share of scaled states [n, S] that are within the log's; 1 of none."""
        return float((self.distance(states) <= self.reach).mean()) if len(states) else 1.0
