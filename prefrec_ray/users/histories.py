"""Complete histories of a sample of users in memory, for models of users and for estimators of a policy's value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from prefrec_ray.ids import changes, last_rows, run_lengths, taken_runs
from prefrec_ray.mdp.exposure import exposures, recent_kinds
from prefrec_ray.mdp.pages import Pages


@dataclass(frozen=True)
class Histories:
    """Impressions [N] of U users in M sessions, by user and in time order. `row`: row of the item in the item table."""

    starts: np.ndarray  # int64 [U], first rows of the users
    timestamp: np.ndarray  # int64 [N], ms
    session: np.ndarray  # int64 [N], from 0 for each user
    row: np.ndarray  # int64 [N]
    state: np.ndarray  # float32 [N, S], scaled
    action: np.ndarray  # float32 [N, A], the item's embedding
    feedback: np.ndarray  # float32 [N, F], as in the log
    exposure: np.ndarray  # float32 [N, X], before the impression (mdp/exposure.py)
    mean_depth: np.ndarray  # float64 [U]
    mean_revisit_ms: np.ndarray  # float64 [U], from a session's last impression, NaN for a user with one session
    propensity: np.ndarray  # float64 [N], of the logging policy, NaN if unknown, 1 for pins
    depth_level: np.ndarray  # float64 [M], NaN if null
    frequency_level: np.ndarray  # float64 [M], NaN if null
    step: np.ndarray | None = None  # int64 [N], number of the page in the user's history; None: one impression each
    pins: np.ndarray | None = None  # bool [N], items that no policy chose, at places of the platform; None: no pins
    examined: np.ndarray | None = None  # bool [N]; other rows are items that the user did not examine; None: all

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of impressions of each user, int64 [U]."""
        return run_lengths(self.starts, len(self.timestamp))

    def take(self, users: np.ndarray) -> Histories:
        """Return the histories of the users in the rows `users` [m]."""
        starts, rows = taken_runs(self.starts, len(self.timestamp), users)
        return self._of(starts, rows, users)

    def examined_only(self, kinds: np.ndarray) -> Histories:
        """Return the histories without the items that were not examined.

        `kinds` int32 [I, K] are the kinds of the items: exposures are those to examined items.
        """
        if self.examined is None:
            return self
        rows, users = np.flatnonzero(self.examined), np.arange(len(self.starts))
        starts = np.searchsorted(rows, self.starts)  # the first impression of a user is examined
        return replace(self._of(starts, rows, users), exposure=exposures(starts, self.row[rows], kinds), examined=None)

    @property
    def shown_per_examined(self) -> float:
        """Return the number of shown items for each examined one."""
        return 1.0 if self.examined is None else 1.0 / float(self.examined.mean())

    def _of(self, starts: np.ndarray, rows: np.ndarray, users: np.ndarray) -> Histories:
        """Return the impressions `rows` of all sessions of `users`, whose histories begin at `starts` among them."""
        _, sessions = taken_runs(np.searchsorted(self.first, self.starts), len(self.first), users)
        return Histories(
            starts=starts,
            timestamp=self.timestamp[rows],
            session=self.session[rows],
            row=self.row[rows],
            state=self.state[rows],
            action=self.action[rows],
            feedback=self.feedback[rows],
            exposure=self.exposure[rows],
            mean_depth=self.mean_depth[users],
            mean_revisit_ms=self.mean_revisit_ms[users],
            propensity=self.propensity[rows],
            depth_level=self.depth_level[sessions],
            frequency_level=self.frequency_level[sessions],
            step=None if self.step is None else self.step[rows],
            pins=None if self.pins is None else self.pins[rows],
            examined=None if self.examined is None else self.examined[rows],
        )

    @cached_property
    def user(self) -> np.ndarray:
        """Return the user of each impression, int64 [N]."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def first(self) -> np.ndarray:
        """Return the first impression of each session, int64 [M]."""
        return np.flatnonzero(changes(self.user) | changes(self.session))

    def recent(self, kinds: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the kinds of the examined items before `rows` (None: all), int32 [n, MEMORY, K] (`recent_kinds`).

        `kinds` int32 [I, K] are the kinds of the items.
        """
        rows = np.arange(len(self.row)) if rows is None else rows
        starts, row = self.starts[self.user[rows]], self.row
        if self.examined is not None:
            before = np.cumsum(self.examined) - self.examined
            starts, rows, row = before[starts], before[rows], row[self.examined]
        return recent_kinds(starts, rows, row, kinds)

    @cached_property
    def pages(self) -> Pages:
        return Pages.from_steps(self.starts, self.step, len(self.timestamp))

    @cached_property
    def opens(self) -> np.ndarray:
        """Return a mask of the first impressions of pages, bool [N]."""
        opens = np.zeros(len(self.timestamp), dtype=bool)
        opens[self.pages.first] = True
        return opens

    @cached_property
    def following(self) -> np.ndarray:
        """Return the first impression of the user's next page, int64 [N]; without a next page the impression itself."""
        following = np.arange(len(self.timestamp))
        rows, following[rows] = self.pages.transitions()
        return following

    @cached_property
    def followed(self) -> np.ndarray:
        """Return a mask of impressions with a later page of the same user, bool [N]."""
        return self.following > np.arange(len(self.timestamp))

    @cached_property
    def ends(self) -> np.ndarray:
        """Return a mask of the last pages of sessions with a following session, bool [N]."""
        return self.session[self.following] != self.session

    @cached_property
    def wait_ms(self) -> np.ndarray:
        """Return the time to the user's next page, float64 [N], at least 1; 1 for the last page."""
        return np.maximum(self.timestamp[self.following] - self.timestamp, 1).astype(np.float64)

    @cached_property
    def away_ms(self) -> np.ndarray:
        """Return the time until the user's next page, float64 [N]; for the last page a lower bound.

        The bound is the time from the page to the end of the log. If most users would then be away for longer
        than ever before, histories do not end with the log, and the bound is 0.
        """
        bound = (self.timestamp.max() - self.timestamp).astype(np.float64)
        of_users = bound[last_rows(self.starts, len(self.timestamp))]
        longest = np.maximum.reduceat(np.where(self.followed, self.wait_ms, 0.0), self.starts)
        end_with_the_log = (of_users <= longest).mean() > 0.5
        return np.where(self.followed, self.wait_ms, bound if end_with_the_log else 0.0)
