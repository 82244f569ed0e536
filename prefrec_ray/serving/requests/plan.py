"""Plan of a batch of HTTP requests: rows to log, replies, and the draw of the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefrec_ray.logs.events.format import Event
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.state.arms import UserId
from prefrec_ray.serving.state.counted_feedback import Own
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
class Recommendation:
    """A recommendation: what feedback on it is checked against."""

    user: UserId
    timestamp: int
    items: Sequence[ItemId]
    propensities: Sequence[float]
    policy: str | None
    arm: str | None


@dataclass(frozen=True)
class Given:
    """Feedback to apply to the state. `number` is the row of its recommendation, None under the client's own id."""

    row: int
    event: Event
    code: int
    number: int | None

    @property
    def own(self) -> Own:
        """Return the key of feedback under a client's own id."""
        (item,) = self.event.items or ()
        return self.event.event_id, user_of(self.event), item


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
    by_request: dict[int, Drawn] = {}
    for number in np.unique(arm[arm >= 0]).tolist():
        mine = np.flatnonzero(arm == number)
        shelf, tracker = state.shelves[number], state.trackers[number]
        if not len(shelf.policy.items):
            by_request |= {at: ([], []) for at in mine.tolist()}
            continue
        states = tracker.states(draws.now[mine], users=draws.rows[mine])
        out = shelf.excluded([draws.out[at] for at in mine.tolist()])
        left = shelf.policy.left(out)
        most = np.minimum(left, draws.wanted[mine])
        # A short draw is the beginning of a long one. So all states draw the same number at once, and are cut off;
        # states with fewer items left draw separately.
        k = int(draws.wanted[mine].max())
        enough = left >= k
        groups = [np.flatnonzero(enough), *(np.array([at]) for at in np.flatnonzero(~enough & (most > 0)))]
        for group in groups:
            if not len(group):
                continue
            k_of_group = k if enough[group[0]] else int(most[group[0]])
            seed = int(rng.integers(2**63))
            drawn = shelf.policy.draw(states[group], k_of_group, out.take(group), seed)
            ids, chances = shelf.policy.items.ids[drawn.rows].tolist(), drawn.propensities.tolist()
            for at, one, chance in zip(group.tolist(), ids, chances, strict=True):
                by_request[int(mine[at])] = one[: most[at]], chance[: most[at]]
        for at in np.flatnonzero(most == 0).tolist():
            by_request[int(mine[at])] = [], []
    return by_request


def user_columns(user: UserId) -> dict[str, Any]:
    """Return the id of a user as a column of the log."""
    return {"user": user} if isinstance(user, str) else {"user_number": user}


def user_of(event: Event) -> UserId:
    """Return the user of an event."""
    if event.user is not None:
        return event.user
    assert event.user_number is not None
    return event.user_number
