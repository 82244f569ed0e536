"""Roll-outs: a server shows pages to a crowd, impression by impression; means over the sessions of each user.

Position r of a page, from 0, is examined with probability EXAMINED ** r, independently of the other positions. This is
the position-based click model of SARDINE (Deffayet et al. 2024, "SARDINE: A Simulator for Automated Recommendation in
Dynamic and Interactive Environments"). A user reacts to the examined items one after another, as to pages of one item,
so that any law has pages. A session that ends at an item ends its page. Items that are not examined have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from prefrec_ray.engagement import levels_against, session_table, user_means
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import HOUR_MS
from prefrec_ray.simulator.law import (
    EXAMINATION,
    LOGGING,
    Choice,
    CrowdServer,
    SimulatedCrowd,
    SimulatedWorld,
    generator,
)

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


@dataclass(frozen=True)
class History:
    """Impressions of n users, in lock-step; every array is [n, requests], `feedback` [n, requests, columns].

    On pages of k items, impressions are the examined items, in the order in which they were examined.
    """

    time_ms: np.ndarray  # int64
    page: np.ndarray  # int64 [n, requests, k], the items of the impression's page, rows of the item table
    position: np.ndarray  # int64, of the impression on its page; each page begins with an impression at position 0
    feedback: np.ndarray  # float32
    satisfaction: np.ndarray  # float32, after the impression
    session: np.ndarray  # int64, from 0 for each user
    propensity: np.ndarray  # float32 [n, requests, k], of the page's items, given the items before on the page
    made: np.ndarray  # bool; False after a user has left for good

    @property
    def rows(self) -> np.ndarray:
        """Return the shown items, int64 [n, requests], rows of the item table."""
        return np.take_along_axis(self.page, self.position[:, :, None], axis=2)[:, :, 0]


def roll_out(
    crowd: SimulatedCrowd, server: CrowdServer, requests: int, examination: np.random.Generator | None = None
) -> History:
    """Simulate `requests` impressions of every user in `crowd`, served by `server` in pages of the world's length.

    `examination`: random numbers of the examined positions; None: from the seed of the world. Raises `UserError` if
    the rules of the world leave fewer items than a page has.
    """
    settings = crowd.world.settings
    pages = OpenPages(crowd, server, examination or generator(settings.seed, EXAMINATION))
    shape = (requests, len(crowd.time_ms))
    # The axis of steps comes first while arrays are filled, so that every step writes contiguous memory.
    time_ms, session, position = (np.empty(shape, np.int64) for _ in range(3))
    page, propensity = np.empty((*shape, pages.size), np.int64), np.empty((*shape, pages.size), np.float32)
    feedback, satisfaction = np.empty((*shape, len(crowd.world.feedback)), np.float32), np.empty(shape, np.float32)
    made = np.empty(shape, bool)
    number = np.zeros(shape[1], np.int64)
    for step in range(requests):
        now, excluded = crowd.time_ms, crowd.excluded()
        if excluded is not None and (~excluded).sum(axis=1).min() < pages.size:
            raise UserError(
                f"simulate: found no items left for a user after {step} impressions; expected fewer impressions"
            )
        time_ms[step], session[step], made[step] = now, number, ~crowd.gone
        rows = pages.turn(now, excluded)
        page[step], propensity[step], position[step] = pages.rows, pages.propensity, pages.position
        response = crowd.show(rows)
        server.observe(now, rows, response.feedback)
        pages.examined(response.leaves)
        feedback[step], satisfaction[step] = response.feedback, response.satisfaction
        number = number + response.leaves
    return History(
        time_ms=time_ms.T,
        page=page.transpose(1, 0, 2),
        position=position.T,
        feedback=feedback.transpose(1, 0, 2),
        satisfaction=satisfaction.T,
        session=session.T,
        propensity=propensity.transpose(1, 0, 2),
        made=made.T,
    )


def start_of_log(
    world: SimulatedWorld, block: int, users: np.ndarray | None = None
) -> tuple[SimulatedCrowd, CrowdServer]:
    """Return the users of a block, or the given users, and the logging policy before their first impressions.

    `roll_out` of both makes the log.
    """
    settings = world.settings
    users = settings.block_users(block) if users is None else users
    crowd = world.crowd(users, generator(settings.seed, LOGGING, block, 0))
    return crowd, world.logging_policy(crowd, generator(settings.seed, LOGGING, block, 1))


def logged_history(world: SimulatedWorld, block: int) -> tuple[SimulatedCrowd, History]:
    """Return the users of a block and the log of their impressions: those that are `made`."""
    crowd, server = start_of_log(world, block)
    examination = generator(world.settings.seed, EXAMINATION, block)
    history = roll_out(crowd, server, int(crowd.requests.max()), examination)
    # All users are simulated for the largest number of impressions; each user's surplus is dropped.
    surplus = np.arange(history.made.shape[1]) >= crowd.requests[:, None]
    return crowd, replace(history, made=history.made & ~surplus)


@dataclass(frozen=True)
class Outcome:
    """Means over the sessions (or impressions) of each of n users, float64 [n]; NaN for a user without sessions."""

    levels: dict[str, np.ndarray]  # by task
    sessions: dict[str, np.ndarray]  # by task: number of sessions with a level, int64
    depth: np.ndarray  # impressions
    revisit_hours: np.ndarray
    satisfaction: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Outcome]) -> Outcome:
        """Return the outcome of the users of all `parts`, at least one."""
        return cls(
            levels={task: np.concatenate([part.levels[task] for part in parts]) for task in parts[0].levels},
            sessions={task: np.concatenate([part.sessions[task] for part in parts]) for task in parts[0].sessions},
            depth=np.concatenate([part.depth for part in parts]),
            revisit_hours=np.concatenate([part.revisit_hours for part in parts]),
            satisfaction=np.concatenate([part.satisfaction for part in parts]),
        )


def outcome(history: History, mean_depth: np.ndarray, mean_revisit_ms: np.ndarray, weight: float) -> Outcome:
    """Return the outcome of a roll-out. `mean_depth` and `mean_revisit_ms` [n] are the users' means in the log.

    Levels follow Eq. 11 with the means of the log; `weight` is the weight of depth in the mixture. As in a log, levels
    count pages, and a page has the time at which it was opened. The last session of a user counts although the
    end of the roll-out may cut it.

    A user who leaves for good has frequency level 0 in the last session. The remaining impressions count with level 0:
    the mean over the user's sessions is multiplied by the share of impressions that took place. Depth, revisit time and
    satisfaction are means over the impressions that took place.
    """
    made, users = history.made, len(history.made)
    opened = made & (history.position == 0)
    user, _ = opened.nonzero()
    table = session_table(user, history.time_ms[opened], history.session[opened])
    share = made.mean(axis=1)
    never = np.isnan(table.revisit_ms) & (share[table.user] < 1)
    to_levels = replace(table, revisit_ms=np.where(never, np.inf, table.revisit_ms))
    levels = levels_against(to_levels, mean_depth, mean_revisit_ms, weight)
    return Outcome(
        levels={task: share * user_means(table.user, level, users) for task, level in levels.items()},
        sessions={task: np.bincount(table.user[~np.isnan(level)], minlength=users) for task, level in levels.items()},
        depth=history.page.shape[2] * user_means(table.user, table.depth, users),
        revisit_hours=user_means(table.user, table.revisit_ms / HOUR_MS, users),
        satisfaction=history.satisfaction.mean(axis=1, dtype=np.float64, where=made),
    )
