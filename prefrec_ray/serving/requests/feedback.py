"""Checks of feedback: its recommendation, its items, and whether `prepare` accepts its values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.feedback_column import EXPECTED
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.serving.requests.bodies import Feedback, FeedbackBatch, ItemFeedback
from prefrec_ray.serving.requests.pages import check_type
from prefrec_ray.serving.state.counted_feedback import Key
from prefrec_ray.serving.state.policies import ItemId
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import UserId
from prefrec_ray.web.problems import Problem, within

#: Number of recommendations in memory; older ones are read from the log.
_RECENT = 1 << 16


class Recommendations:
    """The recommendations of one server, by row number; their event ids begin with `log_id`."""

    def __init__(self, log: EventLog, log_id: str) -> None:
        self._log, self._id = log, log_id
        self._recent: OrderedDict[int, Event] = OrderedDict()

    def remember(self, number: int, event: Event) -> Event:
        """Register and return the recommendation `event`, which is row `number` of the log."""
        self._recent[number] = event
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return event

    def find(self, body: Feedback | FeedbackBatch, state: ServedState) -> tuple[int, Event | None]:
        """Return the row number of the recommendation, and the recommendation; None if the client made the id.

        Raises `Problem` if no recommendation has the id, or if it is too old, damaged, or belongs to another user.
        """
        name, _, digits = body.event_id.rpartition("-")
        if name != self._id:
            return -1, None
        unknown = Problem(404, f"event_id: found {body.event_id!r}; expected the id of a recommendation")
        try:
            number = int(digits, 16)
        except ValueError:
            raise unknown from None
        if f"{number:x}" != digits or not 0 <= number < self._log.next:
            raise unknown
        if number < state.answered.start:
            hours = state.settings.feedback_hours
            raise Problem(410, f"event_id: {body.event_id} is more than {hours:g} hours old; expected earlier feedback")
        shown = self._recent.get(number)
        if shown is None:
            try:
                row = self._log.read(number)
            except UserError as error:
                raise Problem(503, str(error)) from error
            if row["kind"] != Kind.RECOMMENDED:
                raise unknown
            shown = self.remember(number, Event(**{name: row[name] for name in row if name != "number"}))
        if body.user is not None and body.user != user_of(shown):
            raise Problem(422, f"user: found {body.user!r}; expected {user_of(shown)!r}, the user of {body.event_id}")
        return number, shown


class Entry(NamedTuple):
    """Feedback on one item, and its key in the register.

    `position` is the position of the item in its recommendation, None if the client made the id. `values` float [F] are
    in the order of the state; None if the feedback is counted already.
    """

    item: ItemId
    position: int | None
    key: Key
    values: list[float] | None
    dwell_ms: float | None


def entries_of(
    command: Feedback | FeedbackBatch, number: int, shown: Event | None, state: ServedState, planned: Collection[Key]
) -> list[Entry]:
    """Return the feedback on each item of `command`, on the recommendation `shown` in row `number` of the log.

    `shown` is None if the client made the id. `planned`: keys of other feedback that is about to count. Raises
    `Problem` for the first item that is refused.
    """
    entries: list[Entry] = []
    keys: set[Key] = set()
    for prefix, body in command.parts.items():
        with within(prefix):
            item, position = item_of(body, command, shown)
            key: Key
            if position is not None:
                key = number, position
            else:
                assert command.user is not None  # checked by `item_of`
                key = command.event_id, command.user, item
            if key in keys:
                raise Problem(422, f"item: found {item!r} twice; expected each item once")
            keys.add(key)
            values = None
            if not state.answered.has(key) and key not in planned:
                check_type("item", [item], state.codes)
                values = values_of(body, state.policy.state)
            entries.append(Entry(item, position, key, values, body.dwell_ms))
    return entries


def find_user(state: ServedState, user: UserId) -> int | None:
    """Return the row of a user, None for a new user. Raises `Problem` for an id of another type than earlier ids."""
    try:
        return state.users.find(user)
    except UserError as error:
        raise Problem(422, str(error)) from error


def user_of(event: Event) -> UserId:
    if event.user is not None:
        return event.user
    assert event.user_number is not None
    return event.user_number


def item_of(body: ItemFeedback, command: Feedback | FeedbackBatch, shown: Event | None) -> tuple[ItemId, int | None]:
    """Return the item of feedback, and its position in the recommendation `shown`, if any.

    Raises `Problem` if the item was not shown, and if feedback under a client's own id has no user or item.
    """
    if shown is None:
        if command.user is None or body.item is None:
            raise Problem(
                404, f"event_id: found {command.event_id!r}; expected the id of a recommendation, or user and item"
            )
        return body.item, None
    items = list(shown.items or ())
    item = items[0] if body.item is None and len(items) == 1 else body.item
    if item is None or item not in items:
        found = "nothing" if item is None else repr(item)
        raise Problem(422, f"item: found {found}; expected one of the {len(items)} items of {shown.event_id}")
    return item, items.index(item)


def values_of(body: ItemFeedback, definition: StateDefinition) -> list[float]:
    """Return feedback values in the order of the state; 0 if not named. Raises `Problem` if a value is invalid."""
    for name, value in body.feedback.items():
        if name not in definition.feedback:
            raise Problem(422, f"feedback.{name}: unknown; expected some of {', '.join(definition.feedback) or 'none'}")
        kind = definition.feedback_kinds.get(name, "number")
        wrong = value not in (0, 1) if kind == "binary" else kind != "number" and value < 0
        if wrong or (kind == "count" and value != int(value)):
            raise Problem(422, f"feedback.{name}: found {value:g}; expected {EXPECTED[kind]}")
    return [body.feedback.get(name, 0.0) for name in definition.feedback]
