"""Tastes of users from their whole log, more than a policy can use.

Without them a model confuses a well-informed logging policy with an uninformed one, and loses half of the effect of
other items if users differ (docs/results/truth.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.users.histories import Histories

#: Users with fewer impressions do not contribute to the estimate of noise.
_ENOUGH = 4


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
