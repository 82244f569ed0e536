"""Importance weights pi(i | s) / b(i | s) over items, and how many requests, sessions and users they leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.evaluation.trajectories import Trajectories
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.mdp.left_out import LeftOut

#: Requests of a session whose weights count together. One alone does not see what was shown just before; three and four
#: leave half as many sessions and no better means (docs/results/estimators.md).
WINDOW = 2
#: Where rounding would leave nothing of the sessions.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Effective:
    """Effective sample sizes (Kish) of weights, as shares: of the requests, of the sessions by `request_weights` of
    their last requests, and of the users by the products over all of theirs."""

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


def request_weights(log_weight: np.ndarray, first: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """How many of the policy's requests each logged one stands for, if it has as many sessions as the log: log, [N].

    `log_weight` [N] is log pi / b; sessions begin at rows `first` [M]. Of the sessions that come to a position each is
    weighed by the product of its last `window` weights; by them a share of the policy's sessions ends there, and the
    others come to the next position (the product limit, Kaplan and Meier 1958, of weighted sessions). So a session is
    compared with those that are as long alone: products over whole sessions are many small ones and few large ones,
    the more so the longer a session, and give a mean of short sessions. Exact where what was shown earlier in a session
    says nothing more, and where each position's sessions hold all that the policy would do.
    """
    length = run_lengths(first, len(log_weight))
    position = np.arange(len(log_weight)) - np.repeat(first, length)
    running = np.concatenate([[0.0], np.cumsum(log_weight)])
    row = np.arange(len(log_weight))
    recent = running[1:] - running[row - np.minimum(position, window - 1)]
    largest = np.full(length.max(), -np.inf)
    np.maximum.at(largest, position, recent)
    recent -= largest[position]
    weight = np.exp(recent)
    there, last = np.bincount(position, weight), first + length - 1
    ending = np.bincount(position[last], weight[last], len(there))
    coming = np.cumprod(np.append(float(len(first)), 1 - ending / there)[:-1])
    return np.log(np.maximum(coming, _TINY) / there)[position] + recent


def ends(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of each session's last request, [M], from values [N]."""
    return values[np.append(first[1:], len(values)) - 1]


def session_weights(log_weight: np.ndarray, data: Trajectories) -> np.ndarray:
    """`request_weights` of each session's last request, float64 [M]."""
    return ends(request_weights(log_weight, data.first), data.first)


def effective(log_weight: np.ndarray, data: Trajectories) -> Effective:
    """Of the log weights [N] of all requests."""
    sessions = session_weights(log_weight, data)
    products = np.add.reduceat(log_weight, data.first[first_rows(data.user)])
    return Effective(kish(log_weight), kish(sessions), kish(products))


def kish(log_weight: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 as a share of the number of weights, from their logarithms."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.square(weight).sum() / len(weight))
