"""Estimates at other kernel widths and caps, without another pass: log weights are proportional to 1 / sigma^2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.ncis import effective_share, normalised_weights, user_values
from prefrec_ray.evaluation.logged.sessions import LoggedSessions
from prefrec_ray.evaluation.results.records import SensitivityPoint
from prefrec_ray.evaluation.results.scores import within
from prefrec_ray.evaluation.settings import NcisSettings

SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
CAPS = (1.0, 10.0, None)

Kernels = Sequence[tuple[float, float | None]]  # sigma, cap


def kernels(settings: NcisSettings) -> Kernels:
    """Return every combination of width and cap, with the width and cap of `settings` included."""
    caps = sorted({*CAPS, settings.cap}, key=lambda cap: np.inf if cap is None else cap)
    return list(product(sorted({*SIGMAS, settings.sigma}), caps))


def check_scales(settings: NcisSettings) -> None:
    """Raise `UserError` if session log weights are not proportional to 1 / sigma^2."""
    if settings.mode == "density" or settings.aggregate == "mean":
        raise UserError(
            f"--sensitivity: not for mode '{settings.mode}' with aggregate '{settings.aggregate}'; "
            "expected mode ratio or kernel, and aggregate product, geometric or first"
        )


def ncis_sensitivity(
    sessions: LoggedSessions, level: np.ndarray, settings: NcisSettings, grid: Kernels
) -> list[list[SensitivityPoint]]:
    """Return `estimates` of each subject. A subject is a column of `sessions.log_rho`, computed for `settings.sigma`.

    Levels [M] are NaN if null.
    """
    kept = np.isfinite(level)
    user, level, log_rho = sessions.user[kept], level[kept], sessions.log_rho[kept]
    logged = float(user_values(user, level, np.ones(len(user))).mean())
    values, shares = [], []
    for sigma, cap in grid:
        weights = normalised_weights(user, log_rho * (settings.sigma / sigma) ** 2, cap)
        values.append(user_values(user, level, weights).mean(axis=0))
        shares.append(effective_share(user, weights))
    by_subject = zip(np.stack(values, axis=1), np.stack(shares, axis=1), strict=True)
    return [estimates(grid, value, ess, logged) for value, ess in by_subject]


def estimates(grid: Kernels, values: np.ndarray, shares: np.ndarray, logged: float) -> list[SensitivityPoint]:
    """Return one estimate per kernel, from values and effective sample sizes [kernels]."""
    return [
        SensitivityPoint(sigma=sigma, cap=cap, value=within(value), ess=float(ess), behaviour=within(logged))
        for (sigma, cap), value, ess in zip(grid, values, shares, strict=True)
    ]
