"""Plan of a batch of HTTP requests: rows to log, replies, and the draw of the items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefrec_ray.logs.events.format import Event
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.state.counted_feedback import Key
from prefrec_ray.serving.state.shelf import ItemId
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


@dataclass
class Draws:
    """n HTTP requests for items. `out` holds the codes of excluded items."""

    rows: np.ndarray
    now: np.ndarray
    wanted: np.ndarray
    out: list[np.ndarray]


#: Items and propensities.
Drawn = tuple[list[ItemId], list[float]]


def draw_items(state: ServedState, arm: np.ndarray, draws: Draws, rng: np.random.Generator) -> dict[int, Drawn]:
    """Return items and propensities for each HTTP request, drawn by the policy of its `arm` (-1: none).

    The lists are shorter than wanted if fewer items are left.
    """
    by_request: dict[int, Drawn] = {at: ([], []) for at in np.flatnonzero(arm >= 0).tolist()}
    for number in np.unique(arm[arm >= 0]).tolist():
        mine = np.flatnonzero(arm == number)
        shelf, tracker = state.shelves[number], state.trackers[number]
        if not len(shelf.policy.items):
            continue
        states = tracker.states(draws.now[mine], users=draws.rows[mine])
        out = shelf.excluded([draws.out[at] for at in mine.tolist()])
        left = shelf.policy.left(out)
        # A short draw is the beginning of a long one. So all states draw the same number at once, and are cut off;
        # states with fewer items left draw separately.
        k = int(draws.wanted[mine].max())
        few = np.flatnonzero((left < k) & (left > 0))
        for group in (np.flatnonzero(left >= k), *few[:, None]):
            if not len(group):
                continue
            seed = int(rng.integers(2**63))
            drawn = shelf.policy.draw(states[group], min(k, int(left[group].min())), out.take(group), seed)
            ids, chances = shelf.policy.items.ids[drawn.rows].tolist(), drawn.propensities.tolist()
            for at, one, chance in zip(mine[group].tolist(), ids, chances, strict=True):
                wanted = int(draws.wanted[at])
                by_request[at] = one[:wanted], chance[:wanted]
    return by_request
