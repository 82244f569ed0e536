"""Back-test of models of users inside the log: their error for users whom the log treated most like a policy would.

No user of the test is in the fit. Users are shown their logged items again; the error is their logged level minus their
simulated level. A policy leads users to other histories than the log does. The users whose histories lie furthest in
this direction are a small experiment on the policy.
"""

from __future__ import annotations

import numpy as np

#: Share of the users whose error counts.
MOST_ALIKE = 0.25


def backtest_error(error: np.ndarray, logged: np.ndarray, policy: np.ndarray) -> float:
    """Return the error of a gain in levels, at one standard deviation, without its sampling error; at least 0.

    `error` [n] of the logged level of each user (NaN: unknown), `logged` [n, P] the mean history of each user in the
    log, and `policy` [m, P] under the policy. Errors are regressed on the position of a user's history in the direction
    from the log to the policy. The result is the fitted error of the quarter of users who are most alike.
    """
    known = np.isfinite(error)
    error, logged = error[known], logged[known].astype(np.float64)
    if len(error) < 3:
        return 0.0
    variance = logged.var(axis=0)
    away = policy.mean(axis=0, dtype=np.float64) - logged.mean(axis=0)
    direction = np.divide(away, variance, out=np.zeros_like(away), where=variance > 0)
    place = (logged - logged.mean(axis=0)) @ direction
    squares = float(np.square(place).sum())
    if squares == 0:
        return 0.0
    slope = float(place @ error) / squares
    left = error - error.mean() - slope * place
    uncertainty = np.sqrt(np.square(left).sum() / (len(error) - 2) / squares)
    reach = float(np.sort(place)[-max(1, round(MOST_ALIKE * len(place))) :].mean())
    return reach * float(np.sqrt(max(0.0, slope**2 - uncertainty**2)))
