"""Users of an experiment: their arms, when they began, and the probabilities of the arms.

A user begins at the first recommendation under the current assignment. The order of beginnings is the order in which
outcomes become final, so that a later look adds users and changes no earlier one.

A share may grow. The users whose arm then changes before the end of their days are excluded. Whether an arm changes is
decided by the hash of the id alone: a user without another visit is excluded as well. So the remaining users are still
assigned at random, with known probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prefrec_ray.ids import Stream, fraction, hash_ids
from prefrec_ray.serving.experiment.history import Assignment, Events, Stage

#: Key of the hash that orders users with the same beginning. It must be independent of their arms.
_TIES = 1


@dataclass(frozen=True)
class Participants:
    """Users whose arm stays the same during their days, in the order of their beginnings."""

    user: np.ndarray  # int64 [P], row in `Events.users`
    log: np.ndarray  # int64 [P], number of the log
    number: np.ndarray  # int64 [P], row of the first recommendation, as in `Impressions`
    begin: np.ndarray  # int64 [P], ms
    arm: np.ndarray  # int64 [P], in the order of the shares: 0 is the main arm
    chance: np.ndarray  # float64 [P, arms]: the share of each arm among users who are not excluded
    moved: int  # excluded users

    def select(self, rows: np.ndarray | slice) -> Participants:
        """Return the participants in `rows`."""
        return Participants(
            self.user[rows],
            self.log[rows],
            self.number[rows],
            self.begin[rows],
            self.arm[rows],
            self.chance[rows],
            self.moved,
        )


def participants(events: Events, days_ms: int) -> Participants:
    """Return the users with a recommendation under the current assignment, whose days take `days_ms`."""
    shown, names = events.recommendations, list(events.shares)
    rows = np.flatnonzero(np.isin(shown.arm, names))
    user, first = np.unique(shown.user[rows], return_index=True)
    rows = rows[first]
    begin = shown.timestamp[rows]
    arm = np.array([names.index(one) for one in shown.arm[rows]], dtype=np.int64)
    ids = events.users.take(pa.array(user))
    seed = events.assignments[0].seed
    lows, highs = _intervals(events.assignments, shown.log[rows], shown.number[rows], begin + days_ms)
    place = fraction(hash_ids(ids, seed, Stream.ARM, 0))
    own = np.arange(len(arm)), arm
    stays = (lows[own] <= place) & (place < highs[own])
    width = np.maximum(highs - lows, 0.0)
    chance = np.divide(width, width.sum(axis=1, keepdims=True), out=np.zeros_like(width), where=stays[:, None])
    everyone = Participants(user, shown.log[rows], shown.number[rows], begin, arm, chance, int((~stays).sum()))
    order = np.lexsort((hash_ids(ids, seed, Stream.ARM, _TIES), begin))
    return everyone.select(order[stays[order]])


def _intervals(
    assignments: Sequence[Assignment], log: np.ndarray, number: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes, from `low` to `high` [P, arms], that belong to each arm from row `number` to the time `end`.

    `log`, `number` and `end` are int64 [P].
    """
    arms = len(assignments[0].shares)
    lows, highs = np.zeros((len(log), arms)), np.zeros((len(log), arms))
    for of_log, assignment in enumerate(assignments):
        mine = np.flatnonzero(log == of_log)
        stages = assignment.stages
        numbers = np.array([stage.number for stage in stages]) - (stages[0].number if stages else 0)
        times = np.array([stage.timestamp for stage in stages])
        first = np.searchsorted(numbers, number[mine], side="right") - 1
        last = np.maximum(np.searchsorted(times, end[mine], side="right") - 1, first)
        each = np.array([_borders(stage) for stage in stages]).reshape(-1, 2, arms)
        for begin, until in np.unique(np.stack([first, last], axis=1), axis=0).tolist():
            these = mine[(first == begin) & (last == until)]
            lows[these] = each[begin : until + 1, 0].max(axis=0)
            highs[these] = each[begin : until + 1, 1].min(axis=0)
    return lows, highs


def _borders(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Return the first hash of each arm and the end of its hashes, [arms] each: canaries from 0 on, then the rest."""
    ends = np.cumsum(list(stage.shares.values())[1:])
    canaries = np.append(0.0, ends)
    return np.roll(canaries, 1), np.append(1.0, ends)
