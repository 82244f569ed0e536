"""Comparison of experiment arms by the behavior of their users: levels, depth and return times.

A user counts once, `days` days after the first session under the current arms. The outcome of these days is then final,
so that a later look adds users and changes no earlier one. A user's own averages come from the time before the current
seed assigned users to a canary. Otherwise the effects of an earlier canary would be part of the averages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.engagement.levels import level_of
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import read_about
from prefrec_ray.serving.experiment.history import ServedSessions, read_events
from prefrec_ray.serving.experiment.sequence import FIRST, effects, mean_sequence
from prefrec_ray.serving.settings import MAIN

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
#: Outcomes in the order of the table, with descriptions.
OUTCOMES = {
    "depth level": "session depth relative to the user's earlier average, floor, 0 to 5 (Eq. 11)",
    "frequency level": "the user's earlier mean return time relative to the current return time",
    "mixture level": "mean of depth level and frequency level",
    "depth": "impressions per session",
    "sessions a day": "sessions that begin in the user's days, per day",
    "hours to return": "hours from the end of a session to the next, or to the end of the user's days",
    "requests a day": "impressions of these sessions, per day",
}


@dataclass(frozen=True)
class ArmEstimate:
    """Estimate of a mean or a difference: its interval, valid at all times, and the number of users."""

    value: float
    low: float
    high: float
    users: int

    @property
    def verdict(self) -> str:
        """Classify a difference: `more`, `less`, or `not told apart`."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Comparison:
    """Mean of each arm and difference of each canary from the main arm, per outcome."""

    days: float
    users: Mapping[str, int]  # per arm, if their days have passed
    waiting: int  # users whose days have not passed yet
    policies: Mapping[str, list[str]]  # arm -> digests of its policies
    means: Mapping[str, Mapping[str, ArmEstimate | None]]  # outcome -> arm
    differences: Mapping[str, Mapping[str, ArmEstimate | None]]  # outcome -> canary
    shadows: Mapping[str, float]  # shadow -> share of its items that were also recommended

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""

        def plain(of: Mapping[str, Mapping[str, ArmEstimate | None]]) -> dict[str, Any]:
            return {
                outcome: {arm: None if one is None else {**vars(one)} for arm, one in arms.items()}
                for outcome, arms in of.items()
            }

        return {
            "days": self.days,
            "users": dict(self.users),
            "waiting": self.waiting,
            "policies": dict(self.policies),
            "means": plain(self.means),
            "differences": plain(self.differences),
            "shadows": dict(self.shadows),
        }


def compare(folders: Sequence[str], days: float = 7.0) -> Comparison:
    """Compare the arms in the event logs `folders`, one per server, since the current assignment of users.

    A few columns of all events are in memory, about 40 bytes per event. Raises `UserError` for a folder that is not an
    event log, and if there is only one arm.
    """
    about = read_about(folders[0])
    for folder in folders[1:]:
        about.check_same(read_about(folder), f"{folder}: found another kind of log than {folders[0]}")
    events = read_events(folders, about.columns)
    shares = events.shares
    if len(shares) < 2:
        raise UserError(f"{folders[0]}: found one arm; expected canaries (serve.canaries) to compare {MAIN} with")
    gap = about.session_gap_ms
    users = _ComparedUsers(events.sessions(gap), days, events.until - gap)
    arm = events.arms()
    dealt = [user for user in users.after() if arm.get(user) in shares]
    counted = [user for user in dealt if users.settled(user)]
    rows = [users.outcomes(user) for user in counted]
    arms = np.array([arm[user] for user in counted], dtype=object)
    means: dict[str, dict[str, ArmEstimate | None]] = {}
    differences: dict[str, dict[str, ArmEstimate | None]] = {}
    for name in OUTCOMES:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        known = ~np.isnan(values)
        means[name] = {one: _mean(values[known & (arms == one)]) for one in shares}
        differences[name] = {
            one: _difference(values[known], arms[known], one, shares[one] / (shares[one] + shares[MAIN]))
            for one in shares
            if one != MAIN
        }
    return Comparison(
        days=days,
        users={one: int((arms == one).sum()) for one in shares},
        waiting=len(dealt) - len(counted),
        policies=events.policies(),
        means=means,
        differences=differences,
        shadows=events.overlap(),
    )


def _mean(values: np.ndarray) -> ArmEstimate | None:
    if len(values) < FIRST:
        return None
    mean, half = mean_sequence(values)
    return ArmEstimate(float(mean[-1]), float(mean[-1] - half[-1]), float(mean[-1] + half[-1]), len(values))


def _difference(values: np.ndarray, arms: np.ndarray, arm: str, share: float) -> ArmEstimate | None:
    both = (arms == arm) | (arms == MAIN)
    values, treated = values[both], arms[both] == arm
    if min(treated.sum(), (~treated).sum()) < FIRST:
        return None
    return _mean(effects(values, treated, np.full(len(values), share)))


class _ComparedUsers:
    """Users in their first `days` days under the current assignment, with events up to the time `until`, ms."""

    def __init__(self, sessions: ServedSessions, days: float, until: int) -> None:
        self._table, self._number, self._until = sessions.table, sessions.number, until
        self._untouched = sessions.untouched
        self._days, self._span = days, round(days * DAY_MS)
        self._bounds = np.searchsorted(self._table.user, np.arange(int(self._table.user.max(initial=-1)) + 2))
        self._first: dict[int, int] = {}

    def after(self) -> list[int]:
        """Return the users with a first session under the current arms, ordered by the end of their days."""
        for row in np.flatnonzero(self._number >= 0).tolist():
            self._first.setdefault(int(self._table.user[row]), int(self._table.start[row]))
        return sorted(self._first, key=lambda user: self._first[user])

    def settled(self, user: int) -> bool:
        """Return True if the user's days have passed."""
        return self._first[user] + self._span <= self._until

    def outcomes(self, user: int) -> dict[str, float]:
        """Return the outcomes of a user; levels are NaN if the user has no earlier average."""
        rows = slice(self._bounds[user], self._bounds[user + 1])
        start, exit_ = self._table.start[rows], self._table.exit[rows]
        depth, revisit = self._table.depth[rows], self._table.revisit_ms[rows]
        end, before = self._first[user] + self._span, self._untouched[rows]
        mine = (self._number[rows] >= 0) & (start < end)
        pause = np.minimum(np.where(np.isnan(revisit), np.inf, revisit), np.maximum(end - exit_, 1))[mine]
        returned = revisit[before & ~np.isnan(revisit)]
        own_depth = depth[before].mean() if before.any() else np.nan
        own_revisit = returned.mean() if len(returned) else np.nan
        of_depth = float(level_of(depth[mine] / own_depth).mean())
        of_frequency = float(level_of(own_revisit / pause).mean())
        values = of_depth, of_frequency, 0.5 * (of_depth + of_frequency), float(depth[mine].mean())
        rates = mine.sum() / self._days, float(pause.mean()) / HOUR_MS, depth[mine].sum() / self._days
        return dict(zip(OUTCOMES, (*values, *rates), strict=True))
