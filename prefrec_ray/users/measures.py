"""Measures of guard-rails in roll-outs: a number for each user in each model of users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrec_ray.guard_rails import GuardRail
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.users.roll_out import Imagined

#: Makers that compete for the largest share: the most frequent ones.
_FREQUENT = 20


def measure(rail: GuardRail, imagined: Imagined, feedback: Sequence[str], items: ItemTable) -> np.ndarray:
    """Return the measure of a guard-rail, float64 [K, n, V], for n users in K models.

    V is 1, or for `exposure` the number of the most frequent values of the kind: the measure of the policy is the
    largest of their means. NaN: a user without the measure. `feedback` are the names of the feedback columns.
    """
    if rail.measure == "exposure":
        return _frequent_shares(items.kind(rail.name).codes[imagined.rows])
    if rail.measure == "share":
        kind = items.kind(rail.name)
        values = (kind.codes[imagined.rows] == kind.find(rail.value)).mean(axis=2)
    elif rail.measure == "feedback":
        values = imagined.feedback[:, :, list(feedback).index(rail.name)]
    else:
        by_name = {
            "depth": imagined.depth,
            "sessions": imagined.daily_sessions,
            "hours_to_return": imagined.revisit_hours,
        }
        values = by_name[rail.measure]
    return values[:, :, None]


def excess(rail: GuardRail, own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return measure - allowed value, float64 [K, n, V], from the measures of a policy and of its `reference`.

    Both come from `measure`. They are paired by user and model if the limit is relative.
    """
    return own - (rail.allowed(1.0) * reference if rail.relative else rail.limit)


def broken(
    rails: Sequence[GuardRail], own: Imagined, reference: Imagined, feedback: Sequence[str], items: ItemTable
) -> list[str]:
    """Return the guard-rails that the mean over users breaks in at least one model."""
    found = []
    for rail in rails:
        measures = (measure(rail, imagined, feedback, items) for imagined in (own, reference))
        means = np.ma.masked_invalid(excess(rail, *measures)).mean(axis=1).max(axis=1)
        if any(rail.status(mean, mean) == "broken" for mean in means.compressed()):
            found.append(str(rail))
    return found


def _frequent_shares(codes: np.ndarray) -> np.ndarray:
    """Return the shares of the most frequent codes that are not -1, float64 [K, n, V], for `codes` [K, n, R]."""
    values, count = np.unique(codes[codes >= 0], return_counts=True)
    frequent = values[np.argsort(-count, kind="stable")[:_FREQUENT]]
    if not len(frequent):
        return np.zeros((*codes.shape[:2], 1))
    return np.stack([(codes == value).mean(axis=2) for value in frequent], axis=2)
