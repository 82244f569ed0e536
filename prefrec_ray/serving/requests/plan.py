"""Plan of a batch of HTTP requests: rows to log, replies, and the draw of the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefrec_ray.logs.events.format import Event
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.state.counted_feedback import Key
from prefrec_ray.serving.state.policies import ItemId
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.web.problems import Problem

Command = Recommend | Feedback


@dataclass(frozen=True)
class Reply:
    """The body of a reply, and the labels of its metrics."""

    body: dict[str, Any]
    arm: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Given:
    """Feedback to apply to the state: row of the user, event, code of the item, and key in the register."""

    row: int
    event: Event
    code: int
    key: Key


@dataclass
class BatchPlan:
    """The rows of a batch, recommendations first, and the changes of the state to apply after they are on disk."""

    events: list[Event] = field(default_factory=list)
    replies: list[Reply | Problem] = field(default_factory=list)
    shown: list[tuple[int, list[int]]] = field(default_factory=list)  # row of the user, codes of the items
    given: list[Given] = field(default_factory=list)
    described: list[tuple[int, np.ndarray]] = field(default_factory=list)  # row of the user, features before


#: Items and propensities.
Drawn = tuple[list[ItemId], list[float]]


def draw_items(
    state: ServedState, bodies: Sequence[Recommend], rows: np.ndarray, now: np.ndarray, rng: np.random.Generator
) -> list[Drawn]:
    """Return items and propensities for each of n HTTP requests, drawn by the policy of the user's arm.

    `rows` int64 [n] are the rows of the users, `now` int64 [n] the times in ms. The lists are shorter than `k` if fewer
    items are left.
    """
    drawn: list[Drawn] = [([], []) for _ in bodies]
    arm, wanted = state.users.arm[rows], np.array([body.k for body in bodies])
    seen = [
        np.concatenate([state.users.seen(row), state.codes.find(state.codes.array(body.exclude))])
        for body, row in zip(bodies, rows.tolist(), strict=True)
    ]
    for number in np.unique(arm).tolist():
        mine = np.flatnonzero(arm == number)
        shelf, tracker = state.shelves[number], state.trackers[number]
        if not len(shelf.policy.items):
            continue
        states = tracker.states(now[mine], users=rows[mine])
        out = shelf.excluded([seen[at] for at in mine.tolist()])
        left = shelf.policy.left(out)
        # A short draw is the beginning of a long one. So all states draw the same number at once, and are cut off;
        # states with fewer items left draw separately.
        k = int(wanted[mine].max())
        few = np.flatnonzero((left < k) & (left > 0))
        for group in (np.flatnonzero(left >= k), *few[:, None]):
            if not len(group):
                continue
            seed = int(rng.integers(2**63))
            of_group = shelf.policy.draw(states[group], min(k, int(left[group].min())), out.take(group), seed)
            ids, chances = shelf.policy.items.ids[of_group.rows].tolist(), of_group.propensities.tolist()
            for at, one, chance in zip(mine[group].tolist(), ids, chances, strict=True):
                drawn[at] = one[: wanted[at]], chance[: wanted[at]]
    return drawn
