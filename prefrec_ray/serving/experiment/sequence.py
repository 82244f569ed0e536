"""Intervals that stay valid at every look: asymptotic confidence sequences.

Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic confidence sequences,
Annals of Statistics 52(6), 2024 (arXiv 2103.06476): Theorem 2.2 for means, section 3 for effects in randomised trials.
"""

from __future__ import annotations

import numpy as np

ALPHA = 0.05
#: Observations at which the intervals are narrowest.
BEST_AT = 1_000
#: Least number of observations in either group for an interval, since the theory is asymptotic. It was chosen with 300
#: simulated trials of 40,000 users, of which 5 % have an equal canary. With an outcome of 5 for one user in 20 and 0
#: for others, looks from 50 users on found a difference in 17 % of the trials, looks from 400 users on in 3 %. With
#: lognormal outcomes of sigma 1.5, these shares were 16 % and 4 %.
FIRST = 400


def half_widths(deviation: np.ndarray, n: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Return half the width of the interval after each of `n` observations of standard deviation `deviation`, float64.

    With probability 1 - alpha, all means lie within their intervals at the same time, as n grows.
    """
    rho = (-2.0 * np.log(alpha) + np.log(-2.0 * np.log(alpha) + 1.0)) / BEST_AT
    spread = n * rho + 1.0
    return deviation * np.sqrt(2.0 * spread / (n**2 * rho) * np.log(np.sqrt(spread) / alpha))


def mean_sequence(values: np.ndarray, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Return running means of `values` [n] and half the widths of their intervals, [n] each, infinite for the first."""
    n = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / n
    variance = np.maximum(np.cumsum(np.square(values)) / n - np.square(mean), 0.0)
    half = half_widths(np.sqrt(variance), n, alpha)
    half[:1] = np.inf
    return mean, half


def effects(values: np.ndarray, treated: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return one number per user, float64 [n]; its mean is the mean of treated users minus the mean of others.

    `share` [n] is the known probability with which each user was `treated` (bool [n]). The mean of earlier users
    replaces the unknown outcome in the other arm (augmented inverse probability weighting).
    """
    predicted = [_running_mean(values, treated), _running_mean(values, ~treated)]
    one = predicted[0] + np.where(treated, (values - predicted[0]) / share, 0.0)
    other = predicted[1] + np.where(treated, 0.0, (values - predicted[1]) / (1.0 - share))
    return one - other


def _running_mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return for each entry the mean of `values` [n] over earlier entries of `mask`, or over all earlier entries."""

    def before(of: np.ndarray) -> np.ndarray:
        return np.append(0.0, np.cumsum(of)[:-1])

    everyone, n = before(values), np.arange(len(values))
    count = before(mask.astype(np.float64))
    mine = before(np.where(mask, values, 0.0))
    return np.where(count > 0, mine / np.maximum(count, 1.0), everyone / np.maximum(n, 1))
