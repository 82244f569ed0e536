"""Comparison of experiment arms by the behavior of their users: levels, depth and return times.

A user counts once, after `days` days since the first session under the current arms. The outcome of these days is then
final, so that a look every night is a look at a longer sequence of users. A user's own means come from the time before
the seed assigned anyone to a canary. Otherwise the effects of an earlier canary would count as the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.engagement.levels import level_of
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.about import read_about
from prefrec_ray.serving.experiment.history import Sessions, read_events
from prefrec_ray.serving.experiment.sequence import FIRST, effects, mean_sequence
from prefrec_ray.serving.settings import MAIN

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
#: Outcomes in the order of the table, with descriptions.
OUTCOMES = {
    "depth level": "depth of sessions against the user's own mean before, floor and 0 to 5 (Eq. 11)",
    "frequency level": "the user's own mean time to return before, against that of sessions",
    "mixture level": "half of both",
    "depth": "requests a session",
    "sessions a day": "sessions that begin in the user's days, a day",
    "hours to return": "from a session's end to the next, or to the end of the user's days",
    "requests a day": "all requests of these sessions, a day",
}


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference, its interval at all times, and of how many users."""

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
    users: Mapping[str, int]  # of each arm, whose days have passed
    waiting: int  # users whose days have not
    policies: Mapping[str, list[str]]  # the digests that each arm had
    means: Mapping[str, Mapping[str, Estimate | None]]  # outcome -> arm
    differences: Mapping[str, Mapping[str, Estimate | None]]  # outcome -> canary
    shadows: Mapping[str, float]  # shadow -> share of its items that were shown

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""

        def plain(of: Mapping[str, Mapping[str, Estimate | None]]) -> dict[str, Any]:
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
        about.check_same(read_about(folder), f"{folder}: not of the kind of {folders[0]}")
    events = read_events(folders, about.columns)
    shares = events.shares
    if len(shares) < 2:
        raise UserError(f"{folders[0]}: one arm only; expected canaries (serve.canaries) to compare {MAIN} with")
    gap = about.session_gap_ms
    users = _Users(events.sessions(gap), days, events.until - gap)
    arm = events.arms()
    dealt = [user for user in users.after() if arm.get(user) in shares]
    counted = [user for user in dealt if users.settled(user)]
    rows = [users.outcomes(user) for user in counted]
    arms = np.array([arm[user] for user in counted], dtype=object)
    means: dict[str, dict[str, Estimate | None]] = {}
    differences: dict[str, dict[str, Estimate | None]] = {}
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


def _mean(values: np.ndarray) -> Estimate | None:
    if len(values) < FIRST:
        return None
    mean, half = mean_sequence(values)
    return Estimate(float(mean[-1]), float(mean[-1] - half[-1]), float(mean[-1] + half[-1]), len(values))


def _difference(values: np.ndarray, arms: np.ndarray, arm: str, share: float) -> Estimate | None:
    both = (arms == arm) | (arms == MAIN)
    values, treated = values[both], arms[both] == arm
    if min(treated.sum(), (~treated).sum()) < FIRST:
        return None
    return _mean(effects(values, treated, np.full(len(values), share)))


class _Users:
    """Users in their first `days` days under the current assignment, with events up to the time `until`, ms."""

    def __init__(self, sessions: Sessions, days: float, until: int) -> None:
        self._table, self._number, self._until = sessions.table, sessions.number, until
        self._untouched = sessions.untouched
        self._days, self._span = days, round(days * DAY_MS)
        self._bounds = np.searchsorted(self._table.user, np.arange(int(self._table.user.max(initial=-1)) + 2))
        self._first: dict[int, int] = {}

    def after(self) -> list[int]:
        """Users with a session that begins then, in the order in which their days end."""
        for row in np.flatnonzero(self._number >= 0).tolist():
            self._first.setdefault(int(self._table.user[row]), int(self._table.start[row]))
        return sorted(self._first, key=lambda user: self._first[user])

    def settled(self, user: int) -> bool:
        """Return True if the user's days have passed."""
        return self._first[user] + self._span <= self._until

    def outcomes(self, user: int) -> dict[str, float]:
        """NaN for levels of a user without an average of the user's own before."""
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
