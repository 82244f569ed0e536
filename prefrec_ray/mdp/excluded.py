"""Excluded items for each of n states, as pairs: a few pairs cost little, for any number of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ExcludedItems:
    """`state` and `item`, int64 [P]: pairs of a state (0 to `states` - 1, ascending) and a row of the item table.

    All pairs are distinct.
    """

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
