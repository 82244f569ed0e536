"""Outcomes of users in their days: levels, depth, sessions, feedback and the kinds of their items.

Only impressions in a user's days count, and only those that the server received within `feedback_ms` after them. An
outcome is therefore final when this time has passed. Own averages come from the time before the current seed assigned
users to a canary. Otherwise the effects of an earlier canary would be part of the averages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.engagement import (
    MAX_LEVEL,
    SessionTable,
    levels_against,
    session_numbers,
    session_table,
    user_means,
)
from prefrec_ray.logs.events.format import About
from prefrec_ray.serving.experiment.history import HOUR_MS, Events
from prefrec_ray.serving.experiment.participants import Participants
from prefrec_ray.settings import TASKS

#: Weight of depth in the mixture.
_WEIGHT = 0.5


@dataclass(frozen=True)
class UserOutcome:
    """One number per participant, float64 [P], NaN if unknown.

    `limits`: the known range, None if there is none. `before`: the same outcome before the seed had a canary, if known.
    """

    values: np.ndarray
    limits: tuple[float, float] | None = None
    before: np.ndarray | None = None


@dataclass(frozen=True)
class FirstReturn:
    """Time from the end of each participant's first session to the next session.

    `hours` float64 [P], NaN without a session. Not `returned` (bool [P]): the time is longer than `hours`. `before`
    float64 [P]: mean time to the next session before the seed had a canary.
    """

    hours: np.ndarray
    returned: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class Behavior:
    """Outcomes of participants by name, their first returns, and the rows of their impressions."""

    outcomes: dict[str, UserOutcome]
    first_return: FirstReturn
    row: np.ndarray  # int64 [n], row in `Events.impressions`
    participant: np.ndarray  # int64 [n]


def behavior(events: Events, who: Participants, about: About, days_ms: int) -> Behavior:
    """Return the outcomes of `who` in their days of `days_ms`, up to the end of the log.

    They are final for participants whose days ended more than `feedback_ms` before the end of the log.
    """
    seen, gap = events.impressions, about.session_gap_ms
    end = np.minimum(who.begin + days_ms, events.until - events.feedback_ms)
    rows, one = _rows(events, who, end)
    # Clocks of clients differ: feedback on the first recommendation may have an earlier time.
    later = (
        (seen.log[rows] == who.log[one])
        & (seen.number[rows] > who.number[one])
        & (seen.timestamp[rows] >= who.begin[one] - gap)
    )
    untouched = seen.untouched[rows]
    timestamp = seen.timestamp[rows]
    table = session_table(one, timestamp, session_numbers(one, timestamp, gap), seen.dwell_ms[rows])
    begin = who.begin[table.user]
    # A session during which the user's days begin is neither before them nor in them.
    before = untouched[table.first_row] & (table.exit < begin)
    waited = before & (table.exit + table.revisit_ms <= begin + gap)
    sessions = _Sessions(table, later[table.first_row], before, waited, who.begin, end, days_ms)
    outcomes = sessions.outcomes()
    for column, name in enumerate(about.feedback):
        limits = (0.0, 1.0) if about.feedback_kinds.get(name) == "binary" else None
        values = seen.feedback[rows, column].astype(np.float64)
        mean, before = (user_means(one[which], values[which], len(end)) for which in (later, untouched))
        outcomes[f"feedback.{name}"] = UserOutcome(mean, limits, before)
    return Behavior(outcomes, sessions.first_return(), rows[later], one[later])


def rest_of_days(table: SessionTable, end: np.ndarray) -> np.ndarray:
    """Return the time from each session to the `end` [P] of the user's days, at least 1 ms, float64 [M]."""
    return np.maximum(end[table.user] - table.exit, 1.0)


def levels_in_days(
    table: SessionTable, end: np.ndarray, own_depth: np.ndarray, own_revisit: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the levels [M] by task of sessions in days that end at `end` [P], against the users' own means [P].

    A pause that the end of the days cuts short counts as the user's own mean, or as the rest of the days if it is
    longer.
    """
    rest = rest_of_days(table, end)
    cut = np.isnan(table.revisit_ms) | (table.revisit_ms > rest)
    pause = np.where(cut, np.fmax(rest, own_revisit[table.user]), table.revisit_ms)
    return levels_against(replace(table, revisit_ms=pause), own_depth, own_revisit, _WEIGHT)


def _rows(events: Events, who: Participants, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the impressions of participants before the times `end` (int64 [P]), by participant and time.

    Both arrays are int64 [n]: the row in `Events.impressions`, and the participant.
    """
    seen = events.impressions
    participant = np.full(len(events.users), -1)
    participant[who.user] = np.arange(len(who.user))
    rows = np.flatnonzero(participant[seen.user] >= 0)
    one = participant[seen.user[rows]]
    kept = (seen.timestamp[rows] < end[one]) & (seen.received[rows] <= end[one] + events.feedback_ms)
    rows, one = rows[kept], one[kept]
    order = np.lexsort((seen.number[rows], seen.timestamp[rows], one))
    return rows[order], one[order]


@dataclass(frozen=True)
class _Sessions:
    """Sessions of participants: those in their days (`mine`), and those before the seed had a canary (`before`)."""

    table: SessionTable  # `user` is the participant
    mine: np.ndarray  # bool [M]
    before: np.ndarray  # bool [M]
    waited: np.ndarray  # bool [M]: of these, the sessions whose next session began before the days too, or with them
    begin: np.ndarray  # int64 [P], ms
    end: np.ndarray  # int64 [P], ms
    days_ms: int

    def outcomes(self) -> dict[str, UserOutcome]:
        """Return levels, depth, and sessions and impressions per day."""
        table = self.table
        own_depth = self._means(table.depth, self.before)
        own_revisit = self._means(table.revisit_ms, self.waited)
        levels = levels_in_days(table, self.end, own_depth, own_revisit)
        # The same time before as the days: users without a session in it have none, new users are unknown.
        recent = self.before & (table.start >= (self.begin - self.days_ms)[table.user])
        known = np.where(np.isnan(own_depth), np.nan, 1.0)
        sessions = self._sums(np.ones(len(table)), self.mine)
        outcomes = {}
        for task in TASKS:
            values = self._means(levels[task], self.mine)
            # Users who had an average of their own, and no session any more.
            values[(sessions == 0) & np.isfinite(own_depth if task == "depth" else own_revisit)] = 0.0
            before = self._means(levels[task], self.before if task == "depth" else self.waited)
            outcomes[f"{task} level"] = UserOutcome(values, (0.0, float(MAX_LEVEL)), before)
        outcomes["depth"] = UserOutcome(self._means(table.depth, self.mine), None, own_depth)
        days = self.days_ms / (24 * HOUR_MS)
        for name, counts in (("sessions", np.ones(len(table))), ("requests", table.depth)):
            before = known * self._sums(counts, recent) / days
            outcomes[f"{name} a day"] = UserOutcome(self._sums(counts, self.mine) / days, None, before)
        return outcomes

    def first_return(self) -> FirstReturn:
        """Return the time to the second session of a user's days."""
        user, first = np.unique(self.table.user[self.mine], return_index=True)
        session = np.flatnonzero(self.mine)[first]
        revisit = self.table.revisit_ms[session]
        hours, returned = np.full(len(self.end), np.nan), np.zeros(len(self.end), bool)
        hours[user] = np.fmin(revisit, self._rest[session]) / HOUR_MS
        returned[user] = ~np.isnan(revisit)
        return FirstReturn(hours, returned, self._means(self.table.revisit_ms / HOUR_MS, self.waited))

    @property
    def _rest(self) -> np.ndarray:
        return rest_of_days(self.table, self.end)

    def _means(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        return user_means(self.table.user[which], values[which].astype(np.float64), len(self.end))

    def _sums(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.bincount(self.table.user[which], values[which], len(self.end))
