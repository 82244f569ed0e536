"""Measures of roll-outs: of guard-rails, a number for each user in each model of users; and the composition of pages.

Models of users add up the items of a page. A log without pages of nine items of one topic does not show whether users
like such pages, and no model of it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrec_ray.guard_rails import GuardRail
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.users.roll_out import PARTS, Imagined

#: Makers that compete for the largest share: the most frequent ones.
_FREQUENT = 20
#: Share of logged pages within the range of logged pages.
WITHIN = 0.99


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
    if not rail.relative:
        return own - rail.limit
    return own - rail.factor(np.nansum(reference)) * reference


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


def largest_counts(pages: Pages, row: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the largest number of items of one kind on each page, int64 [P, K], for the items `row` [N].

    `kinds` int32 [I, K] are the kinds of the items; -1 is an unknown kind, which is not counted.
    """
    largest = np.zeros((len(pages.first), kinds.shape[1]), np.int64)
    for column, codes in enumerate(kinds.T):
        known = codes[row] >= 0
        size = int(codes.max(initial=0)) + 1
        cell, count = np.unique(pages.of_row[known] * size + codes[row[known]], return_counts=True)
        np.maximum.at(largest[:, column], cell // size, count)
    return largest


def share_like_logged(logged: Pages, row: np.ndarray, shown: np.ndarray, kinds: np.ndarray) -> float | None:
    """Return the share of the pages `shown` [m, k] with at most as many items of one kind as WITHIN of logged pages.

    `logged` pages have the items `row` [N]. None if no logged page has two items.
    """
    if len(logged.first) == len(row):
        return None
    most = np.quantile(largest_counts(logged, row, kinds), WITHIN, axis=0)
    pages = Pages.from_steps(np.array([0]), np.repeat(np.arange(len(shown)), shown.shape[1]), shown.size)
    return float((largest_counts(pages, shown.ravel(), kinds) <= most).all(axis=1).mean())


def part_histories(imagined: Imagined, columns: np.ndarray) -> np.ndarray:
    """Return the means of some inputs in each part of the users' histories, [K n, PARTS, P]; NaN: none is recorded."""
    recorded = np.ma.masked_invalid(imagined.inputs[..., columns])
    means = [recorded[imagined.part == part].mean(axis=0).filled(np.nan) for part in range(PARTS)]
    return np.stack(means, axis=1)
