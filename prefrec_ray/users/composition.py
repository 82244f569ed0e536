"""Composition of pages: how many items of one kind a page has, under a policy and in the log.

Models of users add up the items of a page. A log without pages of nine items of one topic does not show whether users
like such pages, and no model of it does.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.mdp.pages import Pages

#: Share of logged pages within the range.
WITHIN = 0.99


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
