"""The error that a specification test finds in a model of users, and the model without this error.

The test relates the errors of a model to what is known before an impression (checks.py). A model to which the found
errors are added tells how much they change a policy's gain. This change is part of the interval of the gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prefrec_ray.mdp.excluded import HOUR_MS

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

#: A corrected chance of an end is at least this, and at most 1 minus this.
_LEAST_CHANCE = 1e-3


def known_before(exposure: np.ndarray, number: np.ndarray, time_ms: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """Return the features of an impression that are known before it, without feedback, float32 [..., D].

    They are the `exposure` [..., X] to the item, the impression's `number` [...] in the user's history, the hour of the
    day, and the position in the session, whose first impression has the number `opened` [...].
    """
    own = np.stack([number, time_ms / HOUR_MS % 24, number - opened], axis=-1)
    return np.concatenate([exposure, own], axis=-1, dtype=np.float32)


@dataclass(frozen=True)
class FoundError:
    """Regressions of a model's errors on `known_before`.

    The mean prediction of `ends` is the error of the chance that a session ends, the mean prediction of `away` the
    error of log(time away). Without regressions the error is 0.
    """

    ends: Sequence[HistGradientBoostingRegressor]
    away: Sequence[HistGradientBoostingRegressor]

    def corrected(self, leaves: np.ndarray, own: np.ndarray, known: np.ndarray, away_std: float) -> np.ndarray:
        """Return the outputs `leaves` [n, 2] of a member's second network with the errors added.

        `own` [n, 2] are the users' intercepts, `known` [n, D], and `away_std` the unit of the second output.
        """
        chance = 1.0 / (1.0 + np.exp(-(leaves[:, 0] + own[:, 0])))
        chance = np.clip(chance + _mean(self.ends, known), _LEAST_CHANCE, 1.0 - _LEAST_CHANCE)
        logit = np.log(chance / (1.0 - chance)) - own[:, 0]
        return np.stack([logit, leaves[:, 1] + _mean(self.away, known) / away_std], axis=1)


def _mean(models: Sequence[HistGradientBoostingRegressor], known: np.ndarray) -> np.ndarray:
    return np.mean([model.predict(known) for model in models], axis=0) if models else np.zeros(len(known))
