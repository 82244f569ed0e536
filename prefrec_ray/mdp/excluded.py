"""Items that are not shown to a user: excluded items, and items that rest after an impression.

`prepare` measures the rest in the log. A server, roll-outs and importance weights exclude items that rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from prefrec_ray.settings import Settings

#: Days, or for ever.
RestDays: TypeAlias = Annotated[float, Field(ge=0, le=36_600, strict=True)] | Literal["forever"]
HOUR_MS, DAY_MS = 3_600_000.0, 86_400_000.0
#: Largest share of impressions that may repeat an item within its rest. Rows that were logged twice, and rare
#: exceptions to the rule of the platform, must not end it.
RARE = 0.01


@dataclass(frozen=True, eq=False)
class ExcludedItems:
    """Distinct pairs, int64 [P], of a `state` (0 to `states` - 1, ascending) and an `item`, a row of the item table."""

    states: int
    state: np.ndarray
    item: np.ndarray

    @classmethod
    def from_mask(cls, mask: np.ndarray) -> ExcludedItems:
        """Create from a mask, bool [n, I]."""
        state, item = np.nonzero(mask)
        return cls(len(mask), state, item)

    @classmethod
    def from_rows(cls, rows: Sequence[np.ndarray]) -> ExcludedItems:
        """Create from one array of item rows per state, in any order. Duplicates and negative rows are ignored."""
        each = [np.unique(of_state) for of_state in rows]
        each = [of_state[np.searchsorted(of_state, 0) :] for of_state in each]
        state = np.repeat(np.arange(len(each)), [len(of_state) for of_state in each])
        item = np.concatenate(each, dtype=np.int64) if each else np.zeros(0, np.int64)
        return cls(len(each), state, item)

    def __getitem__(self, part: slice) -> ExcludedItems:
        """Return the pairs of a range of states, counted from 0 again."""
        start, stop, _ = part.indices(self.states)
        first, last = np.searchsorted(self.state, [start, stop])
        return ExcludedItems(max(0, stop - start), self.state[first:last] - start, self.item[first:last])

    def take(self, states: np.ndarray) -> ExcludedItems:
        """Return the pairs of some `states` [m], ascending, counted from 0."""
        place = np.full(self.states, -1)
        place[states] = np.arange(len(states))
        kept = place[self.state] >= 0
        return ExcludedItems(len(states), place[self.state[kept]], self.item[kept])

    def counts(self) -> np.ndarray:
        """Return the number of excluded items per state, int64 [n]."""
        return np.bincount(self.state, minlength=self.states)

    def hits(self, rows: np.ndarray, items: int) -> np.ndarray:
        """Return a mask of the `rows` [n, m] (of a table of `items` items) that are excluded in their state."""
        place = np.arange(self.states)[:, None] * items + rows
        return np.isin(place, self.state * items + self.item)


def rest_ms(days: RestDays) -> float:
    """Return a rest in ms, infinite for `forever`."""
    return math.inf if days == "forever" else days * DAY_MS


class Repeats(Settings):
    """Repeats in a log: impressions of an item that the user was shown before.

    `share`: of all impressions. `impressions` and `hours`: medians since the previous impression of the item; None
    without repeats. `rest_days`: the longest time within which at most `RARE` of the impressions repeat an item.
    """

    share: float
    impressions: float | None
    hours: float | None
    rest_days: RestDays


def measure_repeats(user: np.ndarray, timestamp: np.ndarray, row: np.ndarray) -> Repeats:
    """Measure the repeats in N impressions by user and time: int64 [N] codes of users and items, times in ms."""
    pair = user * (int(row.max(initial=0)) + 1) + row
    order = np.argsort(pair, kind="stable")
    again = np.flatnonzero(pair[order][1:] == pair[order][:-1])
    later, before = order[again + 1], order[again]
    if not len(later):
        return Repeats(share=0.0, impressions=None, hours=None, rest_days="forever")
    away = timestamp[later] - timestamp[before]
    rare = int(RARE * len(row))
    return Repeats(
        share=len(later) / len(row),
        impressions=float(np.median(later - before)),
        hours=float(np.median(away) / HOUR_MS),
        rest_days=float(np.partition(away, rare)[rare] / DAY_MS) if rare < len(away) else "forever",
    )


class LastShown:
    """Time of the last impression of each of `items` items for each of `users` users, who start without impressions."""

    def __init__(self, users: int, items: int) -> None:
        self._time = np.full((users, items), -np.inf)

    def show(self, now: np.ndarray, rows: np.ndarray, users: np.ndarray | None = None) -> None:
        """Register an impression of the item in `rows` [m] at `now` [m], ms, for the `users` [m] (None: all)."""
        self._time[np.arange(len(rows)) if users is None else users, rows] = now

    def resting(self, now: np.ndarray, rest_ms: float, users: np.ndarray | None = None) -> np.ndarray:
        """Return a mask of the items that rest at `now` [m], bool [m, I], for the `users` [m] (None: all)."""
        return now[:, None] - (self._time if users is None else self._time[users]) < rest_ms

    def forget(self) -> None:
        """End the rest of all items."""
        self._time.fill(-np.inf)
