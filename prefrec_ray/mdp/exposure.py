"""Exposure of users to an item and its kinds: counts of earlier impressions, in bulk and step by step.

For each kind of the item: the number of impressions of this kind among the last 10, 30 and 100, and the logarithm of
the number of impressions since the last of them. For the item: how often it was shown among the last 100.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.ids import places_in_runs, run_lengths

#: Numbers of recent impressions in which a kind is counted.
WINDOWS = (10, 30, 100)
#: Impressions that are remembered. A kind that was not shown since then was not shown at all.
MEMORY = WINDOWS[-1]


def width(kinds: int) -> int:
    """Return X, the number of columns for this number of kinds of an item."""
    return kinds * (len(WINDOWS) + 1) + 1


def exposures(starts: np.ndarray, rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the exposure before each impression of whole histories, float32 [N, X].

    `starts` [U] are the first impressions of the users, `rows` [N] the item of each impression, `kinds` int32 [I, K]
    the kinds of each item; -1 (unknown) is a kind that is never counted.
    """
    step = places_in_runs(starts, len(rows))
    user = np.repeat(np.arange(len(starts)), run_lengths(starts, len(rows)))
    out = np.empty((len(rows), width(kinds.shape[1])), np.float32)
    column = 0
    for codes in kinds.T:
        *counts, since = _of_codes(user, step, codes[rows])
        for values in (*counts, np.log1p(since)):
            out[:, column] = values
            column += 1
    out[:, column] = _of_codes(user, step, rows)[-2]
    return out


def _of_codes(user: np.ndarray, step: np.ndarray, code: np.ndarray) -> list[np.ndarray]:
    """Return the number of earlier impressions with the same code in each window, and since the last one, [N] each."""
    groups = int(code.max(initial=0)) + 2
    span = int(step.max(initial=0)) + 2 * MEMORY
    group = (user * groups + code + 1) * span
    place = group + step + MEMORY
    order = np.argsort(place)
    ordered = place[order]
    rank = np.empty(len(place), np.int64)
    rank[order] = np.arange(len(place))
    known = code >= 0
    counts = [np.where(known, rank - np.searchsorted(ordered, place - window), 0) for window in WINDOWS]
    last = ordered[np.maximum(rank - 1, 0)]
    since = np.where(known & (rank > 0) & (last >= group + MEMORY), place - last - 1, MEMORY)
    return [*counts, np.minimum(since, MEMORY)]


def recent_kinds(first: np.ndarray, impressions: np.ndarray, rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the kinds of the last impressions before some impressions of whole histories, int32 [n, MEMORY, K].

    `rows` [N] are the items of all impressions; `first` [n] is the first impression of the user of each of the
    `impressions` [n]. The newest come first; -1: no impression, or an unknown kind. Equal to `StateTracker.recent`.
    """
    earlier = impressions[:, None] - 1 - np.arange(MEMORY)
    known = earlier >= first[:, None]
    return np.where(known[:, :, None], kinds[rows[np.maximum(earlier, 0)]], -1)


def repetitions(recent: np.ndarray, kinds: np.ndarray, rows: np.ndarray, window: int) -> np.ndarray:
    """Return the number of the last `window` impressions of the same kind as each item, float32 [n, k].

    `recent` int32 [n, MEMORY, K] from `recent_kinds`, `kinds` int32 [I, K] of all items; `rows` are k items for all
    users, [k], or for each, [n, k]. It is the mean over the K kinds of an item.
    """
    users = len(recent)
    total = np.zeros((users, rows.shape[-1]), np.float32)
    for shown, codes in zip(recent[:, :window].transpose(2, 0, 1), kinds.T, strict=True):
        size = int(codes.max(initial=-1)) + 1
        place = np.where((shown >= 0) & (shown < size), shown, size) + np.arange(users)[:, None] * (size + 1)
        counts = np.bincount(place.ravel(), minlength=users * (size + 1)).reshape(users, size + 1)
        counts[:, size] = 0  # unknown kinds, which have the code -1
        total += counts[:, codes[rows]] if rows.ndim == 1 else np.take_along_axis(counts, codes[rows] % (size + 1), 1)
    return total / max(1, kinds.shape[1])


class RecentRows:
    """Ring buffer of the last `MEMORY` item rows of each of n users, who start without impressions."""

    def __init__(self, users: int, kinds: np.ndarray) -> None:
        self._kinds = kinds
        self._rows = np.full((users, MEMORY), -1, np.int32)
        self._count = np.zeros(users, np.int64)

    def exposures(self, rows: np.ndarray, users: np.ndarray | None = None) -> np.ndarray:
        """Return the exposure before an impression of `rows`, float32 [..., X].

        `rows` [m] has one item per user, or [m, k] k candidates per user, for the users in the rows `users` [m] (None:
        all).
        """
        users = np.arange(len(self._count)) if users is None else users
        past, count = self._rows[users], self._count[users]
        age = (count[:, None] - 1 - np.arange(MEMORY)) % MEMORY  # 0 for the last impression
        age = np.where(past >= 0, age, MEMORY)
        items = rows.reshape(len(users), -1)
        out = np.empty((*items.shape, width(self._kinds.shape[1])), np.float32)
        for number, codes in enumerate(self._kinds.T):
            shown = np.where(past >= 0, codes[past], -1)[:, None]
            same = (shown == codes[items][:, :, None]) & (shown >= 0)
            first = number * (len(WINDOWS) + 1)
            for place, window in enumerate(WINDOWS):
                out[:, :, first + place] = (same & (age < window)[:, None]).sum(axis=2)
            out[:, :, first + len(WINDOWS)] = np.log1p(np.where(same, age[:, None], MEMORY).min(axis=2))
        out[:, :, -1] = (past[:, None] == items[:, :, None]).sum(axis=2)
        return out.reshape(*rows.shape, -1)

    def observe(self, rows: np.ndarray, users: np.ndarray | None = None) -> None:
        """Add one impression of the item in `rows` [m] for each of the users (None: all)."""
        users = np.arange(len(self._count)) if users is None else users
        self._rows[users, self._count[users] % MEMORY] = rows
        self._count[users] += 1
