"""Random intercepts of users: of session ends and of the time away."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_NEWTON_STEPS, _EM_STEPS = 8, 10
#: Longest step of Newton's method, in logits. The curvature changes by a factor of at most e per logit, so that steps
#: of this length do not overshoot ever farther if predictions are extreme.
_LONGEST_STEP = 2.0
#: Smallest variance: an estimate of 0 would divide by 0 in the next step.
_LEAST = 1e-6


class Known(NamedTuple):
    """Session ends of n impressions of users 0 to `users` - 1, and a model's predictions.

    `stays`: predicted logit of an end. `error`: error of the predicted log revisit time, used at session ends.
    """

    user: np.ndarray  # int64 [n]
    users: int
    ends: np.ndarray  # bool [n]
    stays: np.ndarray  # float64 [n]
    error: np.ndarray  # float64 [n]


class Spread(NamedTuple):
    """Variances of both intercepts over users, and of the noise of the revisit time."""

    stays: float = 1.0
    away: float = 1.0
    noise: float = 1.0


def intercepts(known: Known, spread: Spread) -> np.ndarray:
    """Return the most likely random intercepts u of each user, float64 [U, 2], in the model

    logit P(the session ends) = `stays` + u_0        `error` = u_1 + e        u and e Gaussian with `spread`
    """
    user, users, ends, stays, error = known
    first = np.zeros(users)
    for _ in range(_NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-(stays + first[user])))
        slope = np.bincount(user, ends - chance, users) - first / spread.stays
        step = slope / (np.bincount(user, chance * (1 - chance), users) + 1.0 / spread.stays)
        first = first + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    second = np.bincount(user, error * ends, users) / (np.bincount(user, ends, users) + spread.noise / spread.away)
    return np.stack([first, second], axis=1)


def spread_of(known: Known, start: Spread) -> Spread:
    """Estimate the spread by EM (Laird and Ware 1982) from `start`.

    Impressions within sessions do not contribute to `error`. Users without impressions do not count.
    """
    user, users, ends, stays, error = known
    if not ends.any():
        return start
    _, user = np.unique(user, return_inverse=True)
    users = int(user.max()) + 1
    known = Known(user, users, ends, stays, error)
    count, spread = np.bincount(user, ends, users), start
    for _ in range(_EM_STEPS):
        own = intercepts(known, spread)
        chance = 1.0 / (1.0 + np.exp(-(stays + own[user, 0])))
        unsure = 1.0 / (np.bincount(user, chance * (1 - chance), users) + 1.0 / spread.stays)
        unsure_away = 1.0 / (count / spread.noise + 1.0 / spread.away)
        left = np.square(error - own[user, 1]) + unsure_away[user]
        spread = Spread(
            stays=max(float((np.square(own[:, 0]) + unsure).mean()), _LEAST),
            away=max(float((np.square(own[:, 1]) + unsure_away).mean()), _LEAST),
            noise=max(float(left[ends].mean()), _LEAST),
        )
    return spread
