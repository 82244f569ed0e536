"""Outcomes of users in their days: levels, depth, sessions, returns, feedback and the kinds of their items.

Users who leave count: without a session after their first recommendation their depth and levels are 0, and their hours
to return are those of their days. Only feedback and kinds of items are means over users with impressions.

Only impressions in a user's days count, and only those that the server received within `feedback_ms` after them. An
outcome is therefore final when this time has passed. Own averages come from the time before the current seed assigned
users to a canary. Otherwise the effects of an earlier canary would be part of the averages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.engagement import MAX_LEVEL, SessionTable, levels_against, session_numbers, session_table, user_means
from prefrec_ray.ids import codes
from prefrec_ray.logs.events.format import About
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import ItemKind
from prefrec_ray.serving.experiment.history import HOUR_MS, Events, Participants, sessions_of
from prefrec_ray.serving.experiment.sequences import Interval, largest_mean_interval
from prefrec_ray.settings import TASKS

#: Hours from the end of a user's first session to the next session, or to the end of the user's days.
RETURN = "hours to return"
#: Impressions of a user per day.
ACTIVITY = "requests a day"
#: Users with a second session, by recommendations or feedback, in their days.
CAME_BACK = "came back"
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
class Behavior:
    """Outcomes of participants by name, and the rows of their impressions."""

    outcomes: dict[str, UserOutcome]
    row: np.ndarray  # int64 [n], row in `Events.impressions`
    participant: np.ndarray  # int64 [n]


def behavior(events: Events, who: Participants, about: About, days_ms: int) -> Behavior:
    """Return the outcomes of `who` in their days of `days_ms`, up to the end of the log.

    They are final for participants whose days ended more than `feedback_ms` before the end of the log.
    """
    seen, gap, users = events.impressions, about.session_gap_ms, len(who.user)
    end = np.minimum(who.begin + days_ms, events.until - events.feedback_ms)
    rows, one = _rows(events, who, end)
    timestamp, untouched = seen.timestamp[rows], seen.untouched[rows]
    # Clocks of clients differ: feedback on the first recommendation may have an earlier time.
    later = (seen.log[rows] == who.log[one]) & (seen.number[rows] > who.number[one])
    later &= timestamp >= who.begin[one] - gap
    table = session_table(one, timestamp, session_numbers(one, timestamp, gap), seen.dwell_ms[rows])
    begin, mine = who.begin[table.user], later[table.first_row]
    # A session during which the user's days begin is neither before them nor in them.
    before = untouched[table.first_row] & (table.exit < begin)
    # Sessions whose next session began before the days too, or with them.
    waited = before & (table.exit + table.revisit_ms <= begin + gap)
    # The same time before as the days: users without a session in it have none, new users are unknown.
    recent = before & (table.start >= begin - days_ms)

    back, hours = _returns(events, who, rows[later], one[later], end, gap)

    def means(values: np.ndarray, which: np.ndarray) -> np.ndarray:
        return user_means(table.user[which], values[which].astype(np.float64), users)

    def sums(values: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.bincount(table.user[which], values[which], users)

    own_depth, own_revisit = means(table.depth, before), means(table.revisit_ms, waited)
    # New users are compared with the average over users before the canary.
    usual_depth, usual_revisit = _usual(events, gap)
    reference = np.where(np.isnan(own_depth), usual_depth, own_depth)
    pause = np.where(np.isnan(own_revisit), usual_revisit, own_revisit)
    levels, once = levels_in_days(table, end, reference, pause), np.ones(len(table))
    left, outcomes = sums(once, mine) == 0, {}
    for task in TASKS:
        values = means(levels[task], mine)
        values[left & np.isfinite(reference if task == "depth" else pause)] = 0.0
        earlier = means(levels[task], before if task == "depth" else waited)
        outcomes[f"{task} level"] = UserOutcome(values, (0.0, float(MAX_LEVEL)), earlier)
    outcomes["depth"] = UserOutcome(np.where(left, 0.0, means(table.depth, mine)), None, own_depth)
    outcomes[CAME_BACK] = UserOutcome(back.astype(np.float64), (0.0, 1.0))
    known, days = np.where(np.isnan(own_depth), np.nan, 1.0), days_ms / (24 * HOUR_MS)
    for name, counts in (("sessions a day", once), (ACTIVITY, table.depth)):
        outcomes[name] = UserOutcome(sums(counts, mine) / days, None, known * sums(counts, recent) / days)
    user, first = np.unique(table.user[mine], return_index=True)
    session = np.flatnonzero(mine)[first]
    hours[user] = np.fmin(table.revisit_ms, rest_of_days(table, end))[session] / HOUR_MS
    outcomes[RETURN] = UserOutcome(hours, (0.0, days_ms / HOUR_MS), own_revisit / HOUR_MS)
    for column, name in enumerate(about.feedback):
        limits = (0.0, 1.0) if about.feedback_kinds.get(name) == "binary" else None
        values = seen.feedback[rows, column].astype(np.float64)
        mean, earlier = (user_means(one[which], values[which], users) for which in (later, untouched))
        outcomes[f"feedback.{name}"] = UserOutcome(mean, limits, earlier)
    return Behavior(outcomes, rows[later], one[later])


def _usual(events: Events, gap: int) -> tuple[float, float]:
    """Return the mean over users of their mean depth and pause (ms) before the canary, NaN without sessions."""
    table = sessions_of(events.impressions, np.flatnonzero(events.impressions.untouched), gap)
    depth, pause = (
        means[np.isfinite(means)]
        for means in (user_means(table.user, each, len(events.users)) for each in (table.depth * 1.0, table.revisit_ms))
    )
    return (float(depth.mean()) if len(depth) else np.nan), (float(pause.mean()) if len(pause) else np.nan)


def _returns(
    events: Events, who: Participants, rows: np.ndarray, one: np.ndarray, end: np.ndarray, gap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return who came back in the days, bool [P], and the hours until then, or until the end of the days, float64 [P].

    A user comes back with a recommendation or an impression that is more than `gap` ms after the one before. `rows` and
    `one` (int64 [n]) are the impressions in the days and their participants.
    """
    shown, users = events.recommendations, len(who.user)
    given, mine = who.rows(shown.user, len(events.users))
    at = shown.timestamp[given]
    in_days = (at >= who.begin[mine]) & (at < end[mine])
    user = np.concatenate([mine[in_days], one])
    time = np.concatenate([at[in_days], events.impressions.timestamp[rows]])
    order = np.lexsort((time, user))
    user, time = user[order], time[order]
    again = np.append(False, (user[1:] == user[:-1]) & (np.diff(time) > gap))[: len(user)]
    back, hours = np.zeros(users, bool), np.maximum(end - who.begin, 0) / HOUR_MS
    back[user[again]] = True
    came, first = np.unique(user[again], return_index=True)
    hours[came] = (time[again][first] - who.begin[came]) / HOUR_MS
    return back, hours


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
    rows, one = who.rows(seen.user, len(events.users))
    kept = (seen.timestamp[rows] < end[one]) & (seen.received[rows] <= end[one] + events.feedback_ms)
    rows, one = rows[kept], one[kept]
    order = np.lexsort((seen.number[rows], seen.timestamp[rows], one))
    return rows[order], one[order]


@dataclass(frozen=True)
class ItemShares:
    """Share of each value of one kind in the impressions of each participant.

    Entries [m], one for each participant and value with an impression. Items that have no value, or are not in the
    table, count only in `impressions`.
    """

    kind: ItemKind

    participant: np.ndarray  # int64 [m], ascending
    code: np.ndarray  # int64 [m]
    share: np.ndarray  # float64 [m]
    impressions: np.ndarray  # int64 [P], of each participant
    unknown: np.ndarray  # int64 [P]: of these, impressions of items without a value

    @classmethod
    def from_impressions(cls, events: Events, users: int, seen: Behavior, items: ItemTable, name: str) -> ItemShares:
        """Return the shares of the kind `name` of `items`, which are found by their ids, for `users` participants."""
        kind = items.kind(name)
        ids = events.impressions.item
        row = items.find(ids.unique().to_numpy(zero_copy_only=False))[codes(ids)[seen.row]]
        code = np.where(row >= 0, kind.codes[row], -1).astype(np.int64)
        known = code >= 0
        impressions = np.bincount(seen.participant, minlength=users)
        unknown = np.bincount(seen.participant[~known], minlength=users)
        pairs, count = np.unique(np.stack([seen.participant[known], code[known]]), axis=1, return_counts=True)
        return cls(kind, pairs[0], pairs[1], count / impressions[pairs[0]], impressions, unknown)

    def of_value(self, value: str) -> UserOutcome:
        """Return the share of one value per participant, NaN without impressions."""
        values = np.where(self.impressions > 0, 0.0, np.nan)
        mine = self.code == self.kind.find(value)
        values[self.participant[mine]] = self.share[mine]
        return UserOutcome(values, (0.0, 1.0))

    def note(self, mask: np.ndarray) -> str:
        """Return how many impressions of participants in `mask` (bool [P]) are of items without a value, "" for 0."""
        unknown, impressions = int(self.unknown[mask].sum()), int(self.impressions[mask].sum())
        if not unknown:
            return ""
        return f"{unknown:,} of {impressions:,} impressions are of items without {self.kind.names.name}"

    def largest(self, mask: np.ndarray, alpha: float) -> tuple[float, Interval, int]:
        """Return the largest mean share over participants in `mask` (bool [P]), its interval, and their number."""
        counted = mask & (self.impressions > 0)
        users = int(counted.sum())
        mine = counted[self.participant]
        user = (np.cumsum(counted) - 1)[self.participant[mine]]
        code, share = self.code[mine], self.share[mine]
        value = float(np.bincount(code, share).max() / users) if len(share) else float("nan")
        return value, largest_mean_interval(user, code, share, users, alpha), users
