"""Guard-rails of an evaluation: intervals of what policies cost, in roll-outs in models of users."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.subject_roll_outs import Modelled
from prefrec_ray.evaluation.results.names import CURRENT, LOGGING_POLICY
from prefrec_ray.evaluation.results.records import GuardRailRecord
from prefrec_ray.evaluation.results.scores import disagreement, mean_error
from prefrec_ray.guard_rails import GuardRail, guard_rails
from prefrec_ray.users.measures import excess, measure

#: Probability that the interval of any guard-rail of a policy does not contain the true value.
_MISSED = 0.05


def rail_records(
    request: EvaluationRequest, modelled: Mapping[str, Modelled]
) -> dict[str, tuple[GuardRailRecord, ...]]:
    """Return the guard-rails of the settings by policy, relative to the current policy or else the logging policy.

    The intervals of one policy are simultaneous: the error is divided by the number of guard-rails (Bonferroni). They
    contain the differences between users and between models. Relative guard-rails also contain the disagreement of
    models on the change. For a relative limit only the change matters, so that each model is scaled to the mean of the
    reference over models.
    """
    rails = guard_rails(request.settings.guard_rails)
    reference = LOGGING_POLICY if request.current is None else CURRENT
    feedback, items = request.dataset.state.feedback, request.clone.policy.items
    found: dict[str, list[GuardRailRecord]] = {name: [] for name in request.policies}
    for rail in rails:
        missed = _MISSED / len(rails)
        measures = {name: measure(rail, one.imagined, feedback, items) for name, one in modelled.items()}
        base = measures[reference]
        scale = _scale(base) if rail.relative else np.ones((len(base), 1, 1))
        for name, records in found.items():
            over = excess(rail, measures[name], base) * scale
            error = 0.0
            if rail.relative:
                changes = _means(((measures[name] - base) * scale)[:, :, 0])
                error = float(disagreement(changes[np.isfinite(changes)], missed))
            records.append(record_of(rail, measures[name] * scale, over, error, missed))
    return {name: tuple(records) for name, records in found.items() if records}


def record_of(rail: GuardRail, values: np.ndarray, over: np.ndarray, error: float, missed: float) -> GuardRailRecord:
    """Return the result of one guard-rail, from its measure and from measure - allowed value, each [K, n, V].

    `error`: half-width of the part of the interval that more users do not reduce. `missed`: probability that the other
    part misses the true value. A guard-rail is open if fewer than two users have the measure.
    """
    known = np.isfinite(over).any(axis=(0, 2))
    if known.sum() < 2:
        return GuardRailRecord(rail=str(rail), status="open")
    columns = range(over.shape[2])
    means = [_mean(over[:, :, column]) for column in columns]
    halves = [math.hypot(half_width(over[:, :, column], missed), error) for column in columns]
    # The largest share is at least the lower end of each share, and at most the largest upper end.
    low = max(mean - half for mean, half in zip(means, halves, strict=True))
    high = max(mean + half for mean, half in zip(means, halves, strict=True))
    value = max(_mean(np.where(np.isfinite(over), values, np.nan)[:, :, column]) for column in columns)
    return GuardRailRecord(
        rail=str(rail), value=value, allowed=value - max(means), low=low, high=high, status=rail.status(low, high)
    )


def half_width(values: np.ndarray, missed: float) -> float:
    """Return the half-width of an interval of the mean of `values` [K, n], which misses it with this probability.

    The errors over n users and over K models are independent (Student's t for each). NaN values are excluded.
    """
    of_users, of_models = _means(values.T), _means(values)
    return math.hypot(*(float(mean_error(means[np.isfinite(means)], missed)) for means in (of_users, of_models)))


def _scale(base: np.ndarray) -> np.ndarray:
    """Return the factor of each model, [K, 1, 1], that makes its mean of `base` [K, n, 1] the mean over models.

    It is 1 for a model with a mean of 0, and if no user has the measure in a model.
    """
    means = _means(base[:, :, 0])
    factor = np.divide(means.mean(), means, out=np.ones(len(means)), where=means != 0)
    return np.where(np.isfinite(factor), factor, 1.0)[:, None, None]


def _mean(values: np.ndarray) -> float:
    """Return the mean over users of their means over models, for `values` [K, n]; NaN if no user has a value."""
    of_users = _means(values.T)
    known = of_users[np.isfinite(of_users)]
    return float(known.mean()) if len(known) else math.nan


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row [m] of `values` [m, n] without NaN; NaN if a row has no other value."""
    return np.ma.masked_invalid(values).mean(axis=1).filled(math.nan)
