"""Pages: items that a user saw at once. A page is one step of the decision process, and has one row per item.

The rows of a page share the state s before the page, and the state s' before the user's next page. Each row is a
transition (s, a_i, s'), so that Q stays a function of one item: Q(s, a_i) = r(s, a_i) + gamma V(s'), with V over the
items of pages. This is the decomposition of SlateQ (Ie et al., IJCAI 2019). It assumes that a user consumes one item of
a page, and that the reward and the next state depend on this item only. The value of a page is then
sum_i P(i | s, page) Q(s, a_i). A log does not contain P, which is taken as equal for all items of a page. The reward of
a page is therefore the mean of r(s, a_i) over its items, and sums over steps (segments, returns) are sums of these
means. Long pages do not weigh more than short pages, and V and the rewards have one scale for any length of pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prefrec_ray.ids import changes, codes, first_rows, run_lengths


@dataclass(frozen=True, eq=False)
class Pages:
    """P pages of N impressions of U users, by user and in time order."""

    first: np.ndarray  # int64 [P], first row of each page
    of_row: np.ndarray  # int64 [N], page of each row
    of_user: np.ndarray  # int64 [U], first page of each user

    @classmethod
    def from_steps(cls, starts: np.ndarray, step: np.ndarray | None, rows: int) -> Pages:
        """Return the pages of histories that begin at `starts` [U]; rows of one user with equal `step` [N] are a page.

        `step` None: each of the `rows` rows is a page. A user without rows has the first row of the next user.
        """
        if step is None:
            return cls(np.arange(rows), np.arange(rows), starts)
        begins = changes(step)
        begins[starts[starts < rows]] = True
        first = np.flatnonzero(begins)
        return cls(first, np.cumsum(begins) - 1, np.searchsorted(first, starts))

    @classmethod
    def from_table(cls, requests: pa.Table) -> Pages:
        """Return the pages of a file of impressions of a data set, by its columns user_id and step."""
        starts = first_rows(codes(requests["user_id"]))
        return cls.from_steps(starts, requests["step"].to_numpy(), len(requests))

    @property
    def sizes(self) -> np.ndarray:
        """Return the number of rows of each page, int64 [P]."""
        return run_lengths(self.first, len(self.of_row))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of `values` [N] over each page, [P]."""
        return np.add.reduceat(values, self.first) if len(self.first) else values[:0]

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of `values` [N] over each page, float64 [P]."""
        return self.sums(values.astype(np.float64)) / self.sizes

    def transitions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows i (int64, ascending) with a later page of the user, and the first row of that page."""
        followed = np.ones(len(self.first), dtype=bool)
        followed[self.of_user[1:] - 1] = False
        followed[len(self.first) - 1 :] = False
        rows = np.flatnonzero(followed[self.of_row])
        return rows, self.first[self.of_row[rows] + 1]
