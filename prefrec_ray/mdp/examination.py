"""Examination of positions on a page: a position-based click model from a log, and the examined items of pages.

P(feedback on item i at position k) = theta_k gamma_i (Richardson et al., WWW 2007; Chuklin et al. 2015, section 3.3):
theta_k is the probability that a user examines the position, gamma_i the attraction of the item. Only ratios of theta
are identified, and only if items are shown at several positions. The curve is reported relative to the first position.

Only examined items are impressions. A log seldom contains which items were examined. Feedback on an item shows an
examination. An item without feedback was examined with probability theta_k (1 - gamma_i) / (1 - theta_k gamma_i), which
needs the scale of theta, and a log does not determine it. The items without feedback that count as examined are drawn
with this probability under the assumption that users examine the first position; gamma is the share of feedback there.

In roll-outs, an item is examined with the logged frequency of its position and of the number of positions since the
last examined item. A user who leaves in the middle of a page examines none of the later items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.pages import Pages

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


def examined_items(
    pages: Pages, item: np.ndarray, reacted: np.ndarray, training: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return a mask of the rows [N] that count as examined.

    `item` int64 [N] are codes of the items from 0, and `reacted` bool [N] shows the rows with feedback. The model is
    fitted to the rows in the mask `training`, with one probability for all positions from `POSITIONS` - 1 on. All items
    of a position count if it is not examined less often than the first one, by two standard errors.
    """
    position = np.minimum(positions(pages), POSITIONS - 1)
    likely, sampled = np.ones(POSITIONS), training & (item < ITEMS)
    cell, of_cell = np.unique(item[sampled] * POSITIONS + position[sampled], return_inverse=True)
    rows, clicks = np.bincount(of_cell), np.bincount(of_cell, reacted[sampled]).astype(np.int64)
    curve = fit_curve(cell // POSITIONS, cell % POSITIONS, rows, clicks)
    if curve is not None:
        gamma = reacted[training & (position == 0)].mean()
        known = curve.examined + 2 * curve.error < 1
        theta = curve.examined[known]
        likely[curve.position[known]] = theta * (1.0 - gamma) / (1.0 - theta * gamma)
    drawn: np.ndarray = rng.random(len(item)) < likely[position]
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
