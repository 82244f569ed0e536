"""Outcomes of users in their days: levels, depth, sessions, feedback and the kinds of their items.

Only impressions in a user's days count, and only those that the server received within `feedback_ms` after them. An
outcome is therefore final when this time has passed. Own averages come from the time before the current seed assigned
users to a canary. Otherwise the effects of an earlier canary would be part of the averages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.engagement import MAX_LEVEL, levels_against, session_numbers, session_table, user_means
from prefrec_ray.logs.events.format import About
from prefrec_ray.serving.experiment.history import HOUR_MS, Events
from prefrec_ray.serving.experiment.participants import Participants
from prefrec_ray.settings import TASKS

#: Weight of depth in the mixture.
_WEIGHT = 0.5


@dataclass(frozen=True)
class UserOutcome:
    """One number per participant, float64 [P], NaN if unknown. `limits`: the known range, None if there is none."""

    values: np.ndarray
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class FirstReturn:
    """Time from the end of each participant's first session to the next session.

    `hours` float64 [P], NaN without a session. Not `returned` (bool [P]): the time is longer than `hours`.
    """

    hours: np.ndarray
    returned: np.ndarray


@dataclass(frozen=True)
class Behavior:
    """Outcomes of participants by name, their first returns, and the rows of their impressions."""

    outcomes: dict[str, UserOutcome]
    first_return: FirstReturn
    row: np.ndarray  # int64 [n], row in `Events.impressions`
    participant: np.ndarray  # int64 [n]


def behavior(events: Events, who: Participants, about: About, days_ms: int) -> Behavior:
    """Return the outcomes of `who` in their days of `days_ms`, up to the end of the log.

    They are final for participants whose days ended `feedback_ms` and a session gap before the end of the log.
    """
    seen, users, gap = events.impressions, len(events.users), about.session_gap_ms
    known_until = events.until - events.feedback_ms
    participant = np.full(users, -1)
    participant[who.user] = np.arange(len(who.user))
    # Users who do not participate end before the first impression.
    end = np.full(users, np.iinfo(np.int64).min)
    end[who.user] = np.minimum(who.begin + days_ms, known_until)
    kept = (seen.timestamp < end[seen.user]) & (seen.received <= end[seen.user] + events.feedback_ms)
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((seen.number[rows], seen.timestamp[rows], seen.user[rows]))]
    one = participant[seen.user[rows]]
    # Clocks of clients differ: feedback on the first recommendation may have an earlier time.
    later = (
        (seen.log[rows] == who.log[one])
        & (seen.number[rows] > who.number[one])
        & (seen.timestamp[rows] >= who.begin[one] - gap)
    )
    timestamp = seen.timestamp[rows]
    table = session_table(one, timestamp, session_numbers(one, timestamp, gap), seen.dwell_ms[rows])
    mine, before = later[table.first_row], seen.untouched[rows[table.first_row]]
    count = len(who.user)
    own_depth = user_means(table.user[before], table.depth[before], count)
    own_revisit = user_means(table.user[before], table.revisit_ms[before], count)
    rest = np.maximum(end[who.user][table.user] - table.exit, 1.0)
    first = np.flatnonzero(mine)[np.unique(table.user[mine], return_index=True)[1]]
    hours, returned = np.full(count, np.nan), np.zeros(count, bool)
    hours[table.user[first]] = np.fmin(table.revisit_ms[first], rest[first]) / HOUR_MS
    returned[table.user[first]] = ~np.isnan(table.revisit_ms[first])
    # A pause that the end of the days cuts short counts as the user's own mean, or as the rest if it is longer.
    pause = np.where(np.isnan(table.revisit_ms), np.fmax(rest, own_revisit[table.user]), table.revisit_ms)
    levels = levels_against(replace(table, revisit_ms=pause), own_depth, own_revisit, _WEIGHT)
    days = days_ms / (24 * HOUR_MS)
    sessions = np.bincount(table.user[mine], minlength=count)
    outcomes = {}
    for task in TASKS:
        values = user_means(table.user[mine], levels[task][mine], count)
        # Users who had their own average and no session any more.
        values[(sessions == 0) & np.isfinite(own_depth if task == "depth" else own_revisit)] = 0.0
        outcomes[f"{task} level"] = UserOutcome(values, (0.0, float(MAX_LEVEL)))
    outcomes["depth"] = UserOutcome(user_means(table.user[mine], table.depth[mine], count))
    outcomes["sessions a day"] = UserOutcome(sessions / days)
    outcomes["requests a day"] = UserOutcome(np.bincount(table.user[mine], table.depth[mine], count) / days)
    rows, one = rows[later], one[later]
    for column, name in enumerate(about.feedback):
        limits = (0.0, 1.0) if about.feedback_kinds.get(name) == "binary" else None
        values = user_means(one, seen.feedback[rows, column].astype(np.float64), count)
        outcomes[f"feedback.{name}"] = UserOutcome(values, limits)
    return Behavior(outcomes, FirstReturn(hours, returned), rows, one)
