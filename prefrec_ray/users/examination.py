"""Examined items of pages, the only ones from which models of users learn and by which their users change.

A log seldom contains which items were examined. Feedback on an item shows an examination. An item without feedback at
position k was examined with probability theta_k (1 - gamma) / (1 - theta_k gamma). theta_k is from a position-based
click model (mdp/examination.py), under the assumption that users examine the first position. gamma is the share of
feedback there. Among the items without feedback, those that count as examined are drawn with this probability.

In roll-outs, an item is examined with the logged frequency of its position and of the number of positions since the
last examined item. A user who leaves in the middle of a page examines none of the later items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.examination import ITEMS, fit_curve
from prefrec_ray.mdp.pages import Pages

#: Seed of the items without feedback that count as examined.
_SEED = 0


def examined_items(pages: Pages, row: np.ndarray, feedback: np.ndarray) -> np.ndarray | None:
    """Return a mask of the impressions [N] that count as examined; None if no page has two items.

    `row` [N] are the items, `feedback` [N, F]: any above 0 shows an examination. The first item of a page is examined.
    Without feedback on first items nothing is known, and all items count.
    """
    position = positions(pages)
    if not position.any():
        return None
    reacted: np.ndarray = np.any(feedback > 0, axis=1)
    likely = np.ones(int(position.max()) + 1)
    sampled = row < ITEMS
    size = len(likely)
    cell, of_cell = np.unique(row[sampled] * size + position[sampled], return_inverse=True)
    rows, clicks = np.bincount(of_cell), np.bincount(of_cell, reacted[sampled]).astype(np.int64)
    curve = fit_curve(cell // size, cell % size, rows, clicks)
    if curve is not None:
        gamma = reacted[position == 0].mean()
        theta = np.minimum(curve.examined, 1.0)
        unseen = 1.0 - theta * gamma
        likely[curve.position] = np.divide(theta * (1.0 - gamma), unseen, out=np.ones(len(theta)), where=unseen > 0)
    drawn = np.random.default_rng(_SEED).random(len(row)) < likely[position]
    return reacted | drawn | (position == 0)


def positions(pages: Pages) -> np.ndarray:
    """Return the position of each impression on its page, int64 [N], from 0."""
    return np.arange(len(pages.of_row)) - pages.first[pages.of_row]


@dataclass(frozen=True)
class Examination:
    """`chance` float64 [K, K]: of an examination at position k, if the last examined item is j positions before it."""

    chance: np.ndarray

    @classmethod
    def from_pages(cls, pages: Pages, examined: np.ndarray | None) -> Examination | None:
        """Count the `examined` impressions [N]; None: without examination, like the result."""
        if examined is None:
            return None
        position, rows = positions(pages), np.arange(len(examined))
        last = np.maximum.accumulate(np.where(examined, rows, 0))
        before = np.flatnonzero(position > 0)
        since, size = before - last[before - 1], int(position.max()) + 1
        cell = position[before] * size + since
        shown, seen = (np.bincount(cell, weight, size * size) for weight in (None, examined[before].astype(float)))
        return cls(np.divide(seen, shown, out=np.zeros(size * size), where=shown > 0).reshape(size, size))

    def draw(self, users: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the examined items of pages of `size` items, bool [users, size]."""
        uniform, examined = rng.random((users, size)), np.ones((users, size), dtype=bool)
        since = np.ones(users, np.int64)
        most = len(self.chance) - 1
        for position in range(1, size):
            examined[:, position] = uniform[:, position] < self.chance[min(position, most), np.minimum(since, most)]
            since = np.where(examined[:, position], 1, since + 1)
        return examined
