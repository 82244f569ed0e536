"""Outcome of a roll-out for each user: levels relative to the user's logged means, and the true means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefrec_ray.engagement.levels import levels_against, user_means
from prefrec_ray.engagement.sessions import session_table
from prefrec_ray.simulator.rollout import History

HOUR_MS = 3_600_000.0


@dataclass(frozen=True)
class Outcome:
    """Means over the sessions (or impressions) of each of n users, float64 [n]; NaN for a user without sessions."""

    levels: dict[str, np.ndarray]  # by task
    sessions: dict[str, np.ndarray]  # by task: number of sessions with a level, int64
    depth: np.ndarray
    revisit_hours: np.ndarray
    satisfaction: np.ndarray


def outcome(history: History, mean_depth: np.ndarray, mean_revisit_ms: np.ndarray, weight: float) -> Outcome:
    """Return the outcome of a roll-out. `mean_depth` and `mean_revisit_ms` [n] are the users' means in the log.

    Levels follow Eq. 11 with the means of the log; `weight` is the weight of depth in the mixture. As in a log, the
    last session of a user counts although the end of the roll-out may cut it.

    A user who leaves for good has frequency level 0 in the last session. The remaining impressions count with level 0:
    the mean over the user's sessions is multiplied by the share of impressions that took place. Depth, revisit time and
    satisfaction are means over the impressions that took place.
    """
    made, (users, requests) = history.made, history.made.shape
    user = np.repeat(np.arange(users), requests)[made.ravel()]
    table = session_table(user, history.time_ms[made], history.session[made])
    share = made.mean(axis=1)
    never = np.isnan(table.revisit_ms) & (share[table.user] < 1)
    to_levels = replace(table, revisit_ms=np.where(never, np.inf, table.revisit_ms))
    levels = levels_against(to_levels, mean_depth, mean_revisit_ms, weight)
    return Outcome(
        levels={task: share * user_means(table.user, level, users) for task, level in levels.items()},
        sessions={task: np.bincount(table.user[~np.isnan(level)], minlength=users) for task, level in levels.items()},
        depth=user_means(table.user, table.depth, users),
        revisit_hours=user_means(table.user, table.revisit_ms / HOUR_MS, users),
        satisfaction=history.satisfaction.mean(axis=1, dtype=np.float64, where=made),
    )
