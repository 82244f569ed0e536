"""A policy as the server of a simulated crowd: it sees the columns of a log, and no hidden state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from prefrec_ray.mdp.excluded import LastShown
from prefrec_ray.policy import Policy, Served
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.law import Choice


class _OpenPages:
    """The last page of k items of each of n users, with the feedback on the items that are examined so far."""

    def __init__(self, users: int, k: int, feedback: int) -> None:
        self.time_ms = np.zeros(users, np.int64)
        self.number = np.zeros(users, np.int64)  # of the page, from 1; 0 before the first page
        self.rows = np.zeros((users, k), np.int64)
        self.examined = np.zeros((users, k), bool)
        self.feedback = np.zeros((users, k, feedback), np.float32)

    def open(self, users: np.ndarray, time_ms: np.ndarray, rows: np.ndarray) -> None:
        """Open a page of the items `rows` [m, k] for the `users` [m] at `time_ms` [m]."""
        self.time_ms[users], self.rows[users], self.feedback[users], self.examined[users] = time_ms, rows, 0.0, False
        self.number[users] += 1

    def observe(self, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Register the feedback [n, F] on the item in `rows` [n] of each user's page."""
        at = np.arange(len(rows)), (self.rows == rows[:, None]).argmax(axis=1)
        self.feedback[at], self.examined[at] = feedback, True


class PolicyServer:
    """Serves a policy, whose inputs are the columns of a log. `features`: the user features, as strings.

    The ids of the policy's items are rows of the world's table. `rest_ms`: rest of items in the log, if the policy has
    no other. If too few items do not rest, a user is shown any of them. `only_examined`: items of a page that the user
    did not examine are no impressions, as in a log with a column `examined`.
    """

    def __init__(
        self,
        policy: Policy,
        features: Mapping[str, np.ndarray],
        rng: np.random.Generator,
        feedback: Sequence[str] = FEEDBACK,
        rest_ms: float = math.inf,
        only_examined: bool = False,
    ) -> None:
        self.policy, self.tracker, self.rng, self.feedback = policy, policy.tracker(features), rng, feedback
        self.rest_ms = policy.serving.rest_ms(rest_ms)
        self.shown = LastShown(len(self.tracker), int(policy.items.ids.max()) + 1) if self.rest_ms else None
        self.only_examined = only_examined
        self._pages: _OpenPages | None = None

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        """Return items by the policy's serving rule; see `CrowdServer`."""
        served = self._serve(np.arange(len(self.tracker)), time_ms, excluded, 1)
        return Choice(served.items[:, 0], served.propensities[:, 0])

    def serve_pages(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None, k: int) -> Choice:
        """Return pages by the policy's serving rule; see `PageServer`. The users' last pages are closed before."""
        if self._pages is None:
            self._pages = _OpenPages(len(self.tracker), k, len(self.feedback))
        self._close(self._pages, users[self._pages.number[users] > 0])
        excluded = None if excluded is None else excluded[users]
        served = self._serve(users, time_ms[users], excluded, k)
        self._pages.open(users, time_ms[users], served.items)
        return Choice(*served)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Update the states of the users, or their open pages; see `CrowdServer`."""
        if self._pages is not None:
            self._pages.observe(rows, feedback)
            return
        self.tracker.observe(time_ms, rows, dict(zip(self.feedback, feedback.T, strict=True)))
        if self.shown is not None:
            self.shown.show(time_ms, rows)

    def _serve(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None, k: int) -> Served:
        """Return k items for each of the `users` [m]; `time_ms` [m] and `excluded` [m, items] are theirs."""
        seed = int(self.rng.integers(2**32))
        ids = self.policy.items.ids
        exclude = None if excluded is None else excluded[:, ids]
        if self.shown is not None:
            exclude = self._resting(self.shown.resting(time_ms, self.rest_ms, users)[:, ids], exclude, k)
        states, recent = self.tracker.states(time_ms, users=users), self.tracker.recent(users)
        return self.policy.serve(states, k, exclude, seed, recent)

    def _close(self, pages: _OpenPages, users: np.ndarray) -> None:
        """Add the pages of the `users` [m] to their states."""
        for position in range(pages.rows.shape[1]):
            at = users[pages.examined[users, position]] if self.only_examined else users
            now, rows = pages.time_ms[at], pages.rows[at, position]
            feedback = dict(zip(self.feedback, pages.feedback[at, position].T, strict=True))
            self.tracker.observe(now, rows, feedback, users=at, pages=pages.number[at])
            if self.shown is not None:
                self.shown.show(now, rows, at)

    def _resting(self, resting: np.ndarray, excluded: np.ndarray | None, k: int) -> np.ndarray:
        """Return the excluded items, bool [n, I]: by the world, and resting items unless fewer than k would be left."""
        out = resting if excluded is None else resting | excluded
        few = (~out).sum(axis=1) < k
        out[few] = False if excluded is None else excluded[few]
        return out
