"""Support of a policy by the log: the share of the policy's states that are similar to logged states.

A log shows the effect of an item on users with logged histories. A policy that shows a corner of the catalogue for
hours leads users to states that the log does not contain. Its effect there is unknown: it harms if users show fatigue,
and may be the best policy otherwise (docs/evaluation.md). Recent items are summarised by running means of embeddings in
the state vector. Support is the share of these means that lie within the range of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.evaluation.settings import WARM
from prefrec_ray.evaluation.users.histories import Histories
from prefrec_ray.evaluation.users.roll_out import KEPT_EVERY
from prefrec_ray.mdp.state import StateDefinition

#: A state is supported if it is not farther from the mean of logged states than this share of them.
WITHIN = 0.99
#: Required share of supported impressions of a policy. At shares of .4 to .6, a policy without a gain under fatigue was
#: estimated to gain a level and a half; at .9 and more the size was right (docs/results/truth.md).
THRESHOLD = 0.8


@dataclass(frozen=True)
class LoggedPasts:
    """The log's running means of items: `centre` [C], `inverse` of their covariance [C, C], and `reach`.

    `reach` is the squared Mahalanobis distance that contains the share WITHIN of them.
    """

    columns: slice
    centre: np.ndarray
    inverse: np.ndarray
    reach: float

    @classmethod
    def from_histories(cls, data: Histories, state: StateDefinition) -> LoggedPasts:
        """Create from impressions of `data` at the history positions that roll-outs keep, if there are any."""
        columns = state.groups["items"]
        step = np.arange(len(data.state)) - data.starts[data.user]
        late = np.flatnonzero((step >= WARM) & (step % KEPT_EVERY == 0))
        states = data.state[late] if len(late) else data.state
        pasts = states[:, columns].astype(np.float64)
        covariance = np.cov(pasts.T) + 1e-6 * np.eye(pasts.shape[1])
        cloud = cls(columns, pasts.mean(axis=0), np.linalg.inv(covariance), np.inf)
        return replace(cloud, reach=float(np.quantile(cloud.distance(states), WITHIN)))

    def distance(self, states: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distances [n] of scaled states [n, S]."""
        away = states[:, self.columns] - self.centre
        return np.einsum("na,ab,nb->n", away, self.inverse, away)

    def share(self, states: np.ndarray) -> float:
        """Return the share of scaled states [n, S] that are supported; 1 if there are none."""
        return float((self.distance(states) <= self.reach).mean()) if len(states) else 1.0
