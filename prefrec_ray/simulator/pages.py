"""Pages of the simulator: items that a user sees at once, and examines from the top.

Position r of a page, from 0, is examined with probability EXAMINED ** r, independently of the other positions. This is
the position-based click model of SARDINE (Deffayet et al. 2024, "SARDINE: A Simulator for Automated Recommendation in
Dynamic and Interactive Environments"). A user reacts to the examined items one after another, as to pages of one item,
so that any law has pages. A session that ends at an item ends its page. Items that are not examined have no effect.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from prefrec_ray.simulator.law import Choice, CrowdServer, SimulatedCrowd

#: Probability of an examination at one position, relative to the position before.
EXAMINED = 0.85


@runtime_checkable
class PageServer(Protocol):
    """A server that draws whole pages. Other servers draw one item after another, without those before it."""

    def serve_pages(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None, k: int) -> Choice:
        """Return pages of k items, [m, k], for the users in the rows `users` (int64 [m]) of the crowd.

        `time_ms` [n] and `excluded` [n, items] are of the whole crowd. Propensities are given the items before.
        """


class OpenPages:
    """The open page of each user of `crowd`, with the world's number of items. `rng`: of examinations."""

    def __init__(self, crowd: SimulatedCrowd, server: CrowdServer, rng: np.random.Generator) -> None:
        settings, users = crowd.world.settings, len(crowd.time_ms)
        self.size: int = settings.page
        self._crowd, self._server, self._rng, self._items = crowd, server, rng, settings.items
        self._everyone = np.arange(users)
        self._left = np.zeros((users, self.size), dtype=bool)  # positions that the user will examine
        #: Rows of the item table int64 [n, k], their propensities float32 [n, k], and the examined position int64 [n].
        self.rows = np.zeros((users, self.size), dtype=np.int64)
        self.propensity = np.ones((users, self.size), dtype=np.float32)
        self.position = np.zeros(users, dtype=np.int64)

    def turn(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> np.ndarray:
        """Go to the next position that each user examines, if need be on a new page; return its items, int64 [n]."""
        # Drawn for all users, so that random numbers do not depend on the server.
        examined = self._rng.random(self._left.shape) < EXAMINED ** np.arange(self.size)
        users = np.flatnonzero(~self._left.any(axis=1))
        if len(users):
            chosen = self._draw(users, time_ms, excluded)
            self.rows[users], self.propensity[users], self._left[users] = *chosen, examined[users]
            if self.size > 1 and hasattr(self._crowd, "offer"):
                self._crowd.offer(users, self.rows[users])
        self.position = self._left.argmax(axis=1)
        return self.rows[self._everyone, self.position]

    def examined(self, leaves: np.ndarray) -> None:
        """Register that users have examined their positions; the pages of those with `leaves` (bool [n]) end."""
        self._left[self._everyone, self.position] = False
        self._left[leaves] = False

    def _draw(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        if self.size == 1:
            rows, propensity = self._server.serve(time_ms, excluded)
            return Choice(rows[:, None], np.broadcast_to(propensity, len(rows))[:, None])
        if isinstance(self._server, PageServer):
            return self._server.serve_pages(users, time_ms, excluded, self.size)
        out = np.zeros((len(time_ms), self._items), dtype=bool) if excluded is None else excluded.copy()
        # Users in the middle of a page need no items, and may have too few left.
        waiting = np.ones(len(time_ms), dtype=bool)
        waiting[users] = False
        out[waiting] = False
        drawn = []
        for _ in range(self.size):
            rows, propensity = self._server.serve(time_ms, out)
            drawn.append((rows[users], np.broadcast_to(propensity, len(time_ms))[users]))
            out[self._everyone, rows] = True
        rows, propensity = (np.stack(column, axis=1) for column in zip(*drawn, strict=True))
        return Choice(rows, propensity)
