"""Importance weights pi(i | s) / b(i | s) over items, and their effective sample sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.evaluation.logged.trajectories import Trajectories
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.mdp.excluded import ExcludedItems

#: Number of consecutive impressions whose weights are multiplied. One impression ignores the previous item. Three and
#: four leave half as many effective sessions and no better means.
WINDOW = 2
#: Smallest weight of the remaining sessions, against rounding to 0.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Effective:
    """Effective sample sizes (Kish) as shares of impressions, sessions and users.

    A session has the weight of its last impression (`request_weights`), a user the product of all weights.
    """

    requests: float
    sessions: float
    users: float


def shown_before(data: Trajectories, part: slice) -> ExcludedItems:
    """Return the earlier items of the user at each impression of `part`, for logs without repeats."""
    user = data.user[data.session[part]]
    of_user = np.searchsorted(data.user, user)  # the user's first session
    start = data.first[of_user]
    count = np.arange(len(data.row))[part] - start
    state = np.repeat(np.arange(len(count)), count)
    before = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return ExcludedItems(len(count), state, data.row[start[state] + before])


def repeats(data: Trajectories) -> bool:
    """Return True if an item was shown to a user twice."""
    pairs = data.user[data.session] * (int(data.row.max(initial=0)) + 1) + data.row
    return len(np.unique(pairs)) < len(pairs)


def request_weights(log_weight: np.ndarray, first: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the log weight of each impression, [N]: the number of the policy's impressions that it represents.

    `log_weight` [N] is log pi / b; sessions begin at rows `first` [M]. At each position, the sessions that reach it are
    weighted by the product of their last `window` weights. By these weights a share of the policy's sessions ends
    there, and the others reach the next position (the product-limit estimator of Kaplan and Meier 1958 for weighted
    sessions). A session is therefore only compared with sessions of the same length. Products over whole sessions would
    be dominated by short sessions. The weights are exact if earlier items of a session have no further effect, and if
    the sessions at each position cover the policy's actions.
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
    """Return the value at the last impression of each session, [M], from values [N]."""
    return values[np.append(first[1:], len(values)) - 1]


def session_weights(log_weight: np.ndarray, data: Trajectories) -> np.ndarray:
    """Return `request_weights` at each session's last impression, float64 [M]."""
    return ends(request_weights(log_weight, data.first), data.first)


def effective(log_weight: np.ndarray, data: Trajectories) -> Effective:
    """Return the effective sample size of log weights [N] of all impressions."""
    sessions = session_weights(log_weight, data)
    products = np.add.reduceat(log_weight, data.first[first_rows(data.user)])
    return Effective(kish(log_weight), kish(sessions), kish(products))


def kish(log_weight: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 as a share of the number of weights, from their logarithms."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.square(weight).sum() / len(weight))
