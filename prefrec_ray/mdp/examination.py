"""Examination of positions on a page: a position-based click model, estimated from a log.

P(feedback on item i at position k) = theta_k gamma_i (Richardson et al., WWW 2007; Chuklin et al. 2015, section 3.3):
theta_k is the probability that a user examines the position, gamma_i the attraction of the item. Only ratios of theta
are identified, and only if items are shown at several positions. The curve is reported relative to the first position.

The curve is a diagnosis and no weight of training. An item without feedback was examined with probability
theta_k (1 - gamma_i) / (1 - theta_k gamma_i), which needs the scale of theta, and a log does not determine it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The curve has this number of positions, and is estimated from a sample of this number of items.
POSITIONS, ITEMS = 20, 1024
_ITERATIONS, _TOLERANCE = 5_000, 1e-7


@dataclass(frozen=True, eq=False)
class Curve:
    """Examination of K positions relative to the first of them; `error` is the standard error, NaN if unidentified."""

    position: np.ndarray  # int64 [K]
    rows: np.ndarray  # int64 [K]
    clicks: np.ndarray  # int64 [K]
    examined: np.ndarray  # float64 [K]
    error: np.ndarray  # float64 [K]


def fit_curve(item: np.ndarray, position: np.ndarray, rows: np.ndarray, clicks: np.ndarray) -> Curve | None:
    """Estimate the curve by EM from cells [C]: `clicks` of the `rows` of an item at a position; cells may repeat.

    Returns None without clicks at the first position.
    """
    places, k = np.unique(position, return_inverse=True)
    _, i = np.unique(item, return_inverse=True)
    shown, clicked = np.bincount(k, rows), np.bincount(k, clicks)
    if not len(places) or not clicked[0]:
        return None
    theta, gamma = clicked / shown, np.full(int(i.max()) + 1, 0.5)
    curve = theta / theta[0]
    for _ in range(_ITERATIONS):
        none = (rows - clicks) / np.maximum(1 - theta[k] * gamma[i], 1e-300)
        seen = clicks + none * theta[k] * (1 - gamma[i])
        liked = clicks + none * gamma[i] * (1 - theta[k])
        theta, gamma = np.bincount(k, seen) / shown, np.bincount(i, liked) / np.bincount(i, rows)
        before, curve = curve, theta / theta[0]
        if np.abs(curve - before).max() < _TOLERANCE:
            break
    return Curve(
        position=places,
        rows=shown.astype(np.int64),
        clicks=clicked.astype(np.int64),
        examined=curve,
        error=curve * _errors(k, i, rows, theta, gamma),
    )


def _errors(k: np.ndarray, i: np.ndarray, rows: np.ndarray, theta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Return the standard errors of log(theta_k / theta_0), float64 [K], from the expected information.

    With logarithms as parameters, a cell with n rows and p = theta gamma has the information w = n p / (1 - p) on
    log theta + log gamma. The items are eliminated by the Schur complement.
    """
    p = np.minimum(theta[k] * gamma[i], 1 - 1e-9)
    weight = np.zeros((len(theta), len(gamma)))
    np.add.at(weight, (k, i), rows * p / (1 - p))
    of_item = weight.sum(axis=0)
    information = np.diag(weight.sum(axis=1)) - (weight / np.where(of_item > 0, of_item, 1)) @ weight.T
    rest = information[1:, 1:]
    if len(rest) and np.linalg.matrix_rank(rest) < len(rest):
        return np.append(0.0, np.full(len(rest), np.nan))
    return np.append(0.0, np.sqrt(np.diag(np.linalg.inv(rest))))
