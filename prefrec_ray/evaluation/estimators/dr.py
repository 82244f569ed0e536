"""The doubly robust estimator: fitted values, corrected by the logged outcomes."""

from __future__ import annotations

import numpy as np

from prefrec_ray.evaluation.logged.trajectories import Steps


def residuals(known: Steps, taken: np.ndarray, value: np.ndarray, gamma: float) -> np.ndarray:
    """Return r + gamma_t V(s') - Q(s, a) of the steps, float64 [n], in levels.

    `taken` [n] is Q at the logged actions and `value` [N] V at every impression, both as mean levels ((1 - gamma) Q).
    """
    discount = np.where(known.ends, gamma, 1.0)
    return known.reward + (discount * value[known.row + 1] - taken) / (1 - gamma)


def user_means(known: Steps, value: np.ndarray) -> np.ndarray:
    """Return the mean of `value` [N] over each user's session starts, float64 [U]: the direct estimate of fitted Q."""
    return np.bincount(known.start_user, value[known.start]) / np.bincount(known.start_user)


def corrections(known: Steps, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the doubly robust correction of each user's value, float64 [U], from residuals [n] and weights [n].

    With D_t the discount up to impression t, V(s_0) is exactly V'(s_0) + E_pi[sum_t D_t (r + gamma_t V'(s') - Q'(s,
    a))] for any Q' (Jiang and Li 2016; Kakade and Langford 2002). As a mean level, with D constant within a session,
    the sum becomes the mean over sessions of the summed residuals of each session. Impressions come from the logging
    policy. Their weights are the density ratio of the action (`ncis.normalised_weights` of the kernel ratio), or of
    state and action (`weights.request_weights`). The density ratio of the state at the start of a session is taken as
    1: the correction stays biased if the policy leads users to states that are rare in the log.
    """
    return np.bincount(known.user, weight * residual) / np.bincount(known.start_user)
