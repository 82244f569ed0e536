"""Size of a canary: the users and days until a gain is seen, by simulation on the outcomes of a log.

Users are drawn from the log, with their outcomes under the policies that made it. A simulated canary adds the gain to
its users' levels. The interval is the one by which `nightly` and `compare` decide, so that the plan contains the price
of a look at every night.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from prefrec_ray.engagement import MAX_LEVEL, SessionTable, user_means
from prefrec_ray.mdp.excluded import DAY_MS
from prefrec_ray.serving.experiment.compare import ALPHA, each_alpha
from prefrec_ray.serving.experiment.outcomes import levels_in_days
from prefrec_ray.serving.experiment.sequences import effect_interval
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.settings import Task

#: Simulated experiments per number of users.
REPEATS = 40
#: Largest number of users that is simulated. Larger numbers need hours, and a canary of this size is not rare.
MOST_USERS = 200_000
#: Ratio of neighbouring numbers of users.
_STEP = 1.1
_SEED = 0


@dataclass(frozen=True)
class LoggedOutcomes:
    """Levels of some of the `users` in their days, float64 [n], and the share who come back within d days, [D]."""

    levels: np.ndarray
    arrived: np.ndarray
    users: int


@dataclass(frozen=True)
class Plan:
    """Users of both arms until a `gain` is seen with the wished power, and the days; None: more than can be had."""

    gain: float
    share: float
    users: int | None
    days: float | None


def outcomes_of_sessions(table: SessionTable, task: Task, days: float) -> LoggedOutcomes:
    """Return the outcomes of the users in `table`, whose `user` counts from 0, in `days` from a random time on.

    The time of each user is in the second half of the user's history, so that own averages come from the first half,
    and early enough that the history contains the days. Users with a shorter history are excluded.
    """
    rng, count, length = np.random.default_rng(_SEED), int(table.user.max()) + 1, days * DAY_MS
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, table.user, table.start)
    np.maximum.at(last, table.user, table.start)
    middle = (first + last) / 2
    begin = middle + rng.random(count) * (last - length - middle)
    begin[last - length < middle] = np.inf
    before = table.start < begin[table.user]
    depth = user_means(table.user[before], table.depth[before].astype(np.float64), count)
    revisit = user_means(table.user[before], table.revisit_ms[before], count)
    came = np.full(count, np.inf)
    np.minimum.at(came, table.user[~before], table.start[~before])
    end = came + length
    mine = ~before & (table.start < end[table.user])
    level = levels_in_days(table, end, depth, revisit)[task]
    levels = user_means(table.user[mine], level[mine], count)
    with np.errstate(invalid="ignore"):
        waited = (came - begin) / DAY_MS
    waited = waited[np.isfinite(waited)]
    longest = math.ceil(waited.max()) if len(waited) else 0
    arrived = np.array([(waited <= day).mean() for day in range(1, 1 + longest)])
    return LoggedOutcomes(levels[np.isfinite(levels)], arrived, count)


def plan(
    logged: LoggedOutcomes,
    gains: Iterable[float],
    shares: Iterable[float],
    days: float,
    power: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
    rails: int = 0,
) -> list[Plan]:
    """Return a plan for each gain (levels) and share.

    A user counts when `days` and the default `feedback_hours` have passed since the first session. `power`: probability
    that the interval by which a night decides lies above 0. `rails`: the number of guard-rails in the YAML, as for
    `each_alpha`. `progress` counts plans.
    """
    final_days = days + ServeSettings().feedback_hours / 24
    cells = [(gain, share) for gain in gains for share in shares]
    plans = []
    for number, (gain, share) in enumerate(cells, 1):
        users = users_until_seen(logged.levels, gain, share, power, each_alpha(rails))
        plans.append(Plan(gain, share, users, _days(logged, users, final_days)))
        progress(number, len(cells))
    return plans


def users_until_seen(levels: np.ndarray, gain: float, share: float, power: float, alpha: float = ALPHA) -> int | None:
    """Return the number of users until the `gain` is seen with probability `power`; None above `MOST_USERS`."""
    better = shifted(levels, gain)

    def seen(users: int) -> bool:
        rng = np.random.default_rng((_SEED, users))
        found, wanted = 0, power * REPEATS
        for left in reversed(range(REPEATS)):
            rows, treated = rng.integers(0, len(levels), users), rng.random(users) < share
            values = np.where(treated, better[rows], levels[rows]) / MAX_LEVEL
            found += effect_interval(values, treated, np.full(users, share), alpha)[0] > 0
            if found >= wanted or found + left < wanted:
                break  # the other repeats change nothing
        return found >= wanted

    # A test with one look needs fewer users, and the number is searched from there.
    variance = levels.var() / share + levels.var() / (1 - share)
    step = math.floor(math.log(max(7.0 * variance / gain**2, 20.0), _STEP))
    while (users := round(_STEP**step)) <= MOST_USERS:
        if seen(users):
            return users
        step += 1
    return None


def shifted(levels: np.ndarray, gain: float) -> np.ndarray:
    """Return `levels` plus a constant, within 0 to 5, so that the mean gain is `gain`.

    Raises `ValueError` if the mean would leave this range.
    """
    if not 0 < levels.mean() + gain < MAX_LEVEL:
        raise ValueError(f"found a gain of {gain:g} on a mean level of {levels.mean():.2f}; expected a mean below 5")

    def surplus(constant: float) -> float:
        return float(np.clip(levels + constant, 0, MAX_LEVEL).mean() - levels.mean() - gain)

    return np.clip(levels + brentq(surplus, -MAX_LEVEL, MAX_LEVEL), 0, MAX_LEVEL)


def _days(logged: LoggedOutcomes, users: int | None, final_days: float) -> float | None:
    """Return the days until the outcomes of this number of users are final, from the arrivals of the log."""
    if users is None:
        return None
    enough = np.flatnonzero(logged.arrived * logged.users >= users)
    return float(enough[0] + 1 + final_days) if len(enough) else None
