"""Checks of feedback: its recommendation, its item, and whether `prepare` accepts its values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.serving.requests.bodies import Feedback
from prefrec_ray.serving.state.policies import ItemId
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import UserId
from prefrec_ray.web.problems import Problem

#: Number of recommendations in memory; older ones are read from the log.
_RECENT = 1 << 16
_EXPECTED = {
    "binary": "0 or 1",
    "count": "a whole number of at least 0",
    "seconds": "at least 0 seconds",
    "ratio": "a ratio of at least 0",
}


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

    def find(self, body: Feedback, state: ServedState) -> tuple[int, Event | None]:
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
        if state.answered.forgotten(number):
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


def user_of(event: Event) -> UserId:
    """Return the user of an event."""
    if event.user is not None:
        return event.user
    assert event.user_number is not None
    return event.user_number


def item_of(body: Feedback, items: Sequence[ItemId]) -> ItemId:
    """Return the item of feedback on a recommendation of `items`. Raises `Problem` if it was not shown."""
    if body.item is None and len(items) == 1:
        return items[0]
    if body.item is None or body.item not in items:
        found = "nothing" if body.item is None else repr(body.item)
        raise Problem(422, f"item: found {found}; expected one of the {len(items)} items of {body.event_id}")
    return body.item


def values_of(body: Feedback, definition: StateDefinition) -> list[float]:
    """Return feedback values in the order of the state; 0 if not named. Raises `Problem` if a value is invalid."""
    for name, value in body.feedback.items():
        if name not in definition.feedback:
            raise Problem(422, f"feedback.{name}: unknown; expected some of {', '.join(definition.feedback) or 'none'}")
        kind = definition.feedback_kinds.get(name, "number")
        wrong = value not in (0, 1) if kind == "binary" else kind != "number" and value < 0
        if wrong or (kind == "count" and value != int(value)):
            raise Problem(422, f"feedback.{name}: found {value:g}; expected {_EXPECTED[kind]}")
    return [body.feedback.get(name, 0.0) for name in definition.feedback]
