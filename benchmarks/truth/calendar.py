"""Users of a simulated platform who live by the calendar.

A crowd of the simulator advances in lock-step: every step shows an item to every user. Here only the users whose next
impression lies before the end of a day advance; the state of the others is restored after the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np

from prefrec_ray.simulator.law import CrowdServer, SimulatedCrowd

#: Attributes of a crowd that belong to no user.
_SHARED = ("world", "rng", "_world", "_law")


class Shown(NamedTuple):
    """Items shown to m users, int64 [m], and their probabilities, [m]."""

    rows: np.ndarray
    propensity: np.ndarray


class CalendarServer(Protocol):
    """Serves some of the users at each step."""

    def show(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None) -> Shown:
        """Return items for `users` [m]; `time_ms` [n] and `excluded` [n, items] are of all n users."""

    def observe(self, feedback: np.ndarray) -> None:
        """Register the feedback [m, F] on the items."""


@dataclass(frozen=True)
class Day:
    """Impressions in the order of their steps; every array is [N]."""

    user: np.ndarray  # int64
    time_ms: np.ndarray  # int64
    session: np.ndarray  # int64, from 0 for each user
    row: np.ndarray  # int64
    propensity: np.ndarray  # NaN if unknown
    feedback: np.ndarray  # float32 [N, F]

    @classmethod
    def joined(cls, parts: Sequence[Day]) -> Day:
        """Return all impressions, by user and in the order of time."""
        columns = [np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)]
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))


class Life:
    """A crowd and the number of the current session of each user."""

    def __init__(self, crowd: SimulatedCrowd) -> None:
        self.crowd = crowd
        self.session = np.zeros(len(crowd.time_ms), np.int64)

    def until(self, end_ms: int, server: CrowdServer | CalendarServer) -> Day:
        """Let all users live until `end_ms`, and return their impressions."""
        crowd, everyone = self.crowd, np.arange(len(self.session))
        steps = []
        while True:
            active = (crowd.time_ms < end_ms) & ~crowd.gone
            users = np.flatnonzero(active)
            if not len(users):
                break
            now, excluded = crowd.time_ms.copy(), crowd.excluded()
            if hasattr(server, "show"):
                shown = server.show(users, now, excluded)
            else:
                choice = server.serve(now, excluded)
                chance = np.broadcast_to(choice.propensity, everyone.shape)
                shown = Shown(choice.rows[users], chance[users])
            rows = np.zeros(len(everyone), np.int64)
            rows[users] = shown.rows
            before = _of_users(crowd, len(everyone))
            response = crowd.show(rows)
            _restore(crowd, before, ~active)
            feedback = response.feedback[users]
            if hasattr(server, "show"):
                server.observe(feedback)
            else:
                server.observe(now, rows, response.feedback)
            steps.append((users, now[users], self.session[users].copy(), shown.rows, shown.propensity, feedback))
            self.session = self.session + (response.leaves & active)
        return Day(*(np.concatenate(column) for column in zip(*steps, strict=True)))


def _of_users(thing: Any, count: int) -> dict[str, Any]:
    """Return copies of all arrays [count, ...] of an object and of the objects in it."""
    found: dict[str, Any] = {}
    for name, value in vars(thing).items():
        if name in _SHARED:
            continue
        if isinstance(value, np.ndarray):
            if value.shape[:1] == (count,):
                found[name] = value.copy()
        elif hasattr(value, "__dict__") and not callable(value):
            found[name] = _of_users(value, count)
    return found


def _restore(thing: Any, before: dict[str, Any], idle: np.ndarray) -> None:
    """Set the arrays of `thing` to their values `before` for the users `idle` (bool [n])."""
    for name, value in before.items():
        now = getattr(thing, name)
        if isinstance(value, dict):
            _restore(now, value, idle)
        elif now is not None:
            changed = now.copy()
            changed[idle] = value[idle]
            object.__setattr__(thing, name, changed)
