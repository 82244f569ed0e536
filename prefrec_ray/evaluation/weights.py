"""Importance weights pi(i | s) / b(i | s) over items, and how many requests, sessions and users they leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.evaluation.ncis import session_log_weights
from prefrec_ray.evaluation.trajectories import Trajectories
from prefrec_ray.mdp.left_out import LeftOut


@dataclass(frozen=True)
class Effective:
    """Effective sample sizes (Kish) of weights, as shares: of the requests, and of the sessions and users whose weight
    is the product over theirs."""

    requests: float
    sessions: float
    users: float


def shown_before(data: Trajectories, part: slice) -> LeftOut:
    """What each request of `part` finds shown to its user already; of logs in which nobody sees an item twice."""
    user = data.user[data.session[part]]
    of_user = np.searchsorted(data.user, user)  # its first session
    start = data.first[of_user]
    count = np.arange(len(data.row))[part] - start
    state = np.repeat(np.arange(len(count)), count)
    before = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return LeftOut(len(count), state, data.row[start[state] + before])


def repeats(data: Trajectories) -> bool:
    """Whether anybody was shown an item twice."""
    pairs = data.user[data.session] * (int(data.row.max(initial=0)) + 1) + data.row
    return len(np.unique(pairs)) < len(pairs)


def session_weights(log_weight: np.ndarray, data: Trajectories) -> np.ndarray:
    """log of each session's weight, float64 [M], from those of its requests [N]: their product.

    Under it the mean of anything that sessions of the log tell is that of sessions of the policy which begin in the
    same states (Precup et al. 2000): exact for one session, however long, and silent on what a policy does to the
    sessions after it.
    """
    return session_log_weights(log_weight, data.first, "product")


def effective(log_weight: np.ndarray, data: Trajectories) -> Effective:
    """Of the log weights [N] of all requests, without a cap."""
    sessions = session_weights(log_weight, data)
    users = session_log_weights(sessions, np.flatnonzero(np.diff(data.user, prepend=-1)), "product")
    return Effective(kish(log_weight), kish(sessions), kish(users))


def kish(log_weight: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 as a share of the number of weights, from their logarithms."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.square(weight).sum() / len(weight))
