"""Support of a policy by the log: the share of the policy's impressions with histories like logged ones.

A log shows the effect of an item on users with logged histories. A policy that shows one topic for hours leads users to
histories that the log does not contain. Its effect there is unknown: it harms if users tire, and may be the best policy
otherwise (docs/evaluation.md). Histories are described by the exposure to the item and its kinds, and by the running
means of exposures and embeddings. An impression is supported if each of them lies within the range of the log.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.users import WARM
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Inputs
from prefrec_ray.users.roll_out import KEPT_EVERY

#: Share of logged impressions that are within all ranges.
WITHIN = 0.99


@dataclass(frozen=True)
class LoggedPasts:
    """Ranges of the inputs in `columns` int64 [P] that contain the share WITHIN of the log: `low` and `high` [P]."""

    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def from_histories(cls, data: Histories, inputs: Inputs, logged: np.ndarray) -> LoggedPasts:
        """Create from impressions of `data` at the positions that roll-outs record, if there are any.

        `logged`: `inputs.logged(data)`. All inputs have equal tails outside of their ranges.
        """
        step = np.arange(len(data.row)) - data.starts[data.user]
        late = np.flatnonzero((step >= WARM) & (step % KEPT_EVERY == 0))
        columns = np.flatnonzero(inputs.history)
        values = logged[np.ix_(late, columns)] if len(late) else logged[:, columns]
        ordered = np.sort(values, axis=0)
        outermost = np.full(len(values), len(values))  # rank of an impression's most extreme input, from 1
        for own, column in zip(ordered.T, values.T, strict=True):
            below = np.searchsorted(own, column, side="right")
            above = len(own) - np.searchsorted(own, column, side="left")
            outermost = np.minimum(outermost, np.minimum(below, above))
        cut = max(1, int(np.quantile(outermost, 1 - WITHIN, method="lower")))
        return cls(columns, ordered[cut - 1], ordered[-cut])

    def share(self, inputs: np.ndarray) -> float:
        """Return the share of impressions with `inputs` [n, W] that are supported; 1 if there are none."""
        values = inputs[:, self.columns]
        return float(((values >= self.low) & (values <= self.high)).all(axis=1).mean()) if len(inputs) else 1.0
