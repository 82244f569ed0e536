"""Traits of users from their whole log, more than a policy can use: tastes, and random intercepts.

Without tastes a model confuses a well-informed logging policy with an uninformed one, and loses half of the effect of
other items if users differ (docs/results/truth.md). Intercepts are of session ends and of the time away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prefrec_ray.users.histories import Histories

#: Users with fewer impressions do not contribute to the estimate of noise.
_ENOUGH = 4
_NEWTON_STEPS, _EM_STEPS = 8, 10
#: Longest step of Newton's method, in logits. The curvature changes by a factor of at most e per logit, so that steps
#: of this length do not overshoot ever farther if predictions are extreme.
_LONGEST_STEP = 2.0
#: Smallest variance: an estimate of 0 would divide by 0 in the next step.
_LEAST = 1e-6


@dataclass(frozen=True)
class Tastes:
    """Denoised covariances of each feedback column with the shown embedding.

    Noise in tastes weakens inner products with them, and therefore the estimated gain of a policy. The covariance
    between the two halves of each user's log, over all users' covariances [T], T = F A, is signal; the rest is noise. A
    user's covariances are replaced by their best linear prediction (regression calibration: Carroll et al. 2006,
    Measurement Error in Nonlinear Models, ch. 4), in the K directions with more signal than chance.
    """

    mean: np.ndarray  # float64 [T]
    into: np.ndarray  # float64 [T, K]: to directions in which the noise of an impression has variance 1
    back: np.ndarray  # float64 [K, T]
    signal: np.ndarray  # float64 [K], variance over users

    @classmethod
    def from_histories(cls, data: Histories) -> Tastes:
        """Estimate the tastes of the users of a data set."""
        mean = covariances(data).mean(axis=0)
        enough, width = data.lengths >= _ENOUGH, len(mean)
        if not width or not enough.any():
            return cls(mean, np.empty((width, 0)), np.empty((0, width)), np.empty(0))
        odd = (np.arange(len(data.row)) - data.starts[data.user]) % 2 == 1
        one, other = (covariances(data, kept)[enough] - mean for kept in (odd, ~odd))
        count = data.lengths[enough]
        differ = 0.5 * (one - other) * np.sqrt(count)[:, None]
        noise = differ.T @ differ / len(differ)
        variance, axes = np.linalg.eigh(noise + (1e-6 * np.trace(noise) / width + 1e-30) * np.eye(width))
        white, colour = (axes / np.sqrt(variance)) @ axes.T, (axes * np.sqrt(variance)) @ axes.T
        agree = white @ one.T @ other @ white / len(one)
        signal, directions = np.linalg.eigh(0.5 * (agree + agree.T))
        # The largest eigenvalue of pure noise is 2 sqrt(T) standard deviations of an entry (Wigner's law).
        chance = 2.0 * np.sqrt(width * 2.0 * np.square(1.0 / count).mean() / len(one))
        above_chance = signal > chance
        directions = directions[:, above_chance]
        return cls(mean, white @ directions, directions.T @ colour, signal[above_chance])

    def __call__(self, data: Histories) -> np.ndarray:
        """Return the tastes of the users of `data`, float32 [U, F, A]."""
        reliable = self.signal / (self.signal + 1.0 / data.lengths[:, None])
        tastes = self.mean + ((covariances(data) - self.mean) @ self.into * reliable) @ self.back
        return tastes.reshape(len(data.starts), data.feedback.shape[1], data.action.shape[1]).astype(np.float32)


def covariances(data: Histories, kept: np.ndarray | None = None) -> np.ndarray:
    """Return covariances of each feedback with the embedding, float64 [U, F A], over each user's impressions.

    `kept`: mask of the impressions to use.
    """
    weight = np.ones(len(data.row)) if kept is None else kept.astype(np.float64)
    count = np.maximum(np.add.reduceat(weight, data.starts), 1.0)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values.reshape(len(weight), -1) * weight[:, None], data.starts, axis=0) / count

    action, feedback = mean(data.action), mean(data.feedback)
    joint = mean(data.feedback[:, :, None] * data.action[:, None])
    return joint - (feedback[:, :, None] * action[:, None]).reshape(joint.shape)


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
