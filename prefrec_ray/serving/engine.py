"""What becomes of a batch of requests: planned rows of the log, taken in once they are on the disk."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.events.format import Event, Kind
from prefrec_ray.events.log import EventLog
from prefrec_ray.serving.arms import UserId
from prefrec_ray.serving.bodies import Feedback, Recommend
from prefrec_ray.serving.problems import Problem
from prefrec_ray.serving.shelf import ItemId
from prefrec_ray.serving.state import ServedState

#: Recommendations that are held in memory; older ones are read from the log.
_RECENT = 1 << 16
_EXPECTED = {
    "binary": "0 or 1",
    "count": "a whole number of at least 0",
    "seconds": "at least 0 seconds",
    "ratio": "a ratio of at least 0",
}

Command = Recommend | Feedback


@dataclass(frozen=True)
class Answer:
    """The body of an answer, and what is counted of it."""

    body: dict[str, Any]
    arm: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class _Shown:
    """A recommendation, as feedback needs it."""

    user: UserId
    timestamp: int
    items: Sequence[ItemId]
    propensities: Sequence[float]
    policy: str | None
    arm: str | None


@dataclass(frozen=True)
class _Given:
    """Feedback on its way into the state. `number`: of the recommendation; None: under the client's own id."""

    row: int
    event: Event
    code: int
    number: int | None


@dataclass
class Plan:
    """The rows of a batch, those of recommendations first, and what they do to the state once they are on the disk."""

    events: list[Event] = field(default_factory=list)
    answers: list[Answer | Problem] = field(default_factory=list)
    shown: list[tuple[int, list[int]]] = field(default_factory=list)  # row of the user, codes of the items
    given: list[_Given] = field(default_factory=list)
    described: list[tuple[int, np.ndarray]] = field(default_factory=list)  # row of the user, features before


@dataclass
class _Draws:
    """n requests for items. `out`: codes of items that may not be shown."""

    rows: np.ndarray
    now: np.ndarray
    wanted: np.ndarray
    out: list[np.ndarray]


class Engine:
    """Plans and takes in batches, for one caller at a time. `log_id` begins the ids of its own events."""

    def __init__(self, state: ServedState, log: EventLog, log_id: str, seed: int | None = None) -> None:
        self.state, self.log, self._id = state, log, log_id
        self._recent: OrderedDict[int, _Shown] = OrderedDict()
        self._rng = np.random.default_rng(seed)

    def plan(self, commands: Sequence[Command], clock: int) -> Plan:
        """What is to be logged and answered. `clock`: the server's, ms.

        Of the state only new users are added, and features of users set, which `give_up` takes back.
        """
        plan = Plan(answers=[Problem(500, "not answered")] * len(commands))
        shadowed = self._recommend(plan, commands, clock)
        for place, command in enumerate(commands):
            if isinstance(command, Feedback):
                try:
                    plan.answers[place] = self._feedback(plan, command, clock)
                except Problem as problem:
                    plan.answers[place] = problem
        plan.events += shadowed
        return plan

    def take_in(self, plan: Plan, first: int, clock: int) -> None:
        """The rows of `plan` are on the disk, from number `first` on."""
        state, leave_out = self.state, self.state.settings.leave_out
        for number, (row, codes) in enumerate(plan.shown, first):
            if leave_out == "recommended":
                state.people.see(row, codes)
            event = plan.events[number - first]
            self._remember(number, event)
        state.next = first + len(plan.events)
        state.answered.advance(state.next, clock)
        for one in plan.given:
            if one.number is None:
                state.answered.add_own(one.event.event_id, clock)
            else:
                state.answered.add(one.number, one.event.position or 0)
            unseen = leave_out == "answered" or (leave_out == "recommended" and one.number is None)
            if unseen and one.code >= 0:
                state.people.see(one.row, [one.code])
        if plan.given:
            self._observe(plan.given)

    def _observe(self, given: list[_Given]) -> None:
        rows, codes = np.array([one.row for one in given]), np.array([one.code for one in given])
        times = np.array([one.event.timestamp for one in given])
        values = np.array([one.event.feedback for one in given], np.float32).reshape(len(rows), -1)
        dwell = np.array([np.nan if one.event.dwell_ms is None else one.event.dwell_ms for one in given])
        known = np.array([bool(one.event.known) for one in given])
        self.state.people.came(rows, times)
        self.state.observe(rows[known], codes[known], times[known], values[known], dwell[known])

    def give_up(self, plan: Plan) -> None:
        """The rows of `plan` could not be written: features that they told are forgotten."""
        for row, before in reversed(plan.described):
            self.state.undescribe(row, before)

    def _remember(self, number: int, event: Event) -> None:
        items, chances = event.items or (), event.propensities or ()
        self._hold(number, _Shown(_user(event), event.timestamp, items, chances, event.policy, event.arm))

    def _hold(self, number: int, shown: _Shown) -> _Shown:
        self._recent[number] = shown
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return shown

    def _row(self, user: UserId) -> int:
        try:
            row = self.state.people.find(user)
        except UserError as error:
            raise Problem(422, str(error)) from error
        if row is None:
            row = len(self.state.people)
            self.state.add_users([user])
        return row

    def _recommend(self, plan: Plan, commands: Sequence[Command], clock: int) -> list[Event]:
        """Plans the recommendations; returns what shadow policies would have given."""
        state, asked = self.state, []
        for place, body in enumerate(commands):
            if isinstance(body, Recommend):
                try:
                    row = self._row(body.user)
                    self._describe(plan, row, body)
                except Problem as problem:
                    plan.answers[place] = problem
                    continue
                asked.append((place, body, row))
        if not asked:
            return []
        draws = _Draws(
            rows=np.array([row for *_, row in asked]),
            now=np.array(
                [max(clock if b.timestamp is None else b.timestamp, state.people.last(row)) for _, b, row in asked]
            ),
            wanted=np.array([body.k for _, body, _ in asked]),
            out=[
                np.concatenate([state.people.seen(row), codes[codes >= 0]])
                for _, body, row in asked
                for codes in [state.codes.find(body.exclude)]
            ],
        )
        arm = state.people.arm[draws.rows]
        drawn = self._draw(arm, draws)
        for at, (place, body, row) in enumerate(asked):
            one, (ids, chances) = state.loaded[int(arm[at])], drawn[at]
            event = Event(
                Kind.RECOMMENDED,
                timestamp=int(draws.now[at]),
                event_id=f"{self._id}-{self.log.next + len(plan.events):x}",
                **_columns(body.user),
                given=body.timestamp,
                received=clock,
                policy=one.digest,
                arm=one.arm,
                items=ids,
                propensities=chances,
                note=None if body.features is None else json.dumps(body.features),
            )
            plan.events.append(event)
            plan.shown.append((row, state.codes.find(state.codes.array(ids)).tolist()))
            answer = {"items": ids, "propensities": chances, "policy": one.digest, "arm": one.arm}
            plan.answers[place] = Answer({"event_id": event.event_id, **answer}, one.arm)
        return self._shadowed(plan, draws)

    def _shadowed(self, plan: Plan, draws: _Draws) -> list[Event]:
        state, events = self.state, []
        for number in range(len(state.settings.shadows)):
            mine = state.people.shadows[draws.rows, number]
            arm = 1 + len(state.settings.canaries) + number
            one = state.loaded[arm]
            for at, (ids, chances) in self._draw(np.where(mine, arm, -1), draws).items():
                of_arm = replace(plan.events[at], kind=Kind.SHADOWED, note=None, policy=one.digest, arm=one.arm)
                events.append(replace(of_arm, items=ids, propensities=chances))
        return events

    def _draw(self, arm: np.ndarray, draws: _Draws) -> dict[int, tuple[list[ItemId], list[float]]]:
        """Items and propensities for each request, by the policy of its `arm` (-1: none): as many as are left."""
        found: dict[int, tuple[list[ItemId], list[float]]] = {}
        for number in np.unique(arm[arm >= 0]).tolist():
            mine = np.flatnonzero(arm == number)
            shelf, tracker = self.state.shelves[number], self.state.trackers[number]
            if not len(shelf.policy.items):
                found |= {at: ([], []) for at in mine.tolist()}
                continue
            states = tracker.states(draws.now[mine], users=draws.rows[mine])
            out = shelf.left_out([draws.out[at] for at in mine.tolist()])
            left = shelf.policy.left(out)
            most = np.minimum(left, draws.wanted[mine])
            # A draw of many is one of few, cut off: equal numbers in one go, the few who have less left by themselves.
            k = int(draws.wanted[mine].max())
            enough = left >= k
            groups = [np.flatnonzero(enough), *(np.array([at]) for at in np.flatnonzero(~enough & (most > 0)))]
            for group in groups:
                if not len(group):
                    continue
                k_of_group = k if enough[group[0]] else int(most[group[0]])
                seed = int(self._rng.integers(2**63))
                drawn = shelf.policy.draw(states[group], k_of_group, out.take(group), seed)
                ids, chances = shelf.policy.items.ids[drawn.rows].tolist(), drawn.propensities.tolist()
                for at, one, chance in zip(group.tolist(), ids, chances, strict=True):
                    found[int(mine[at])] = one[: most[at]], chance[: most[at]]
            for at in np.flatnonzero(most == 0).tolist():
                found[int(mine[at])] = [], []
        return found

    def _describe(self, plan: Plan, row: int, body: Recommend) -> None:
        if body.features is None:
            return
        known = self.state.policy.state.user_features
        for name in body.features:
            if name not in known:
                raise Problem(422, f"features.{name}: unknown feature; expected some of {', '.join(known) or 'none'}")
        plan.described.append((row, self.state.describe(row, body.features)))

    def _feedback(self, plan: Plan, body: Feedback, clock: int) -> Answer:
        state = self.state
        number, shown = self._shown(body)
        if shown is None:
            if body.user is None or body.item is None:
                raise Problem(
                    404, f"event_id: found {body.event_id!r}; expected one of a recommendation, or user and item"
                )
            if state.answered.has_own(body.event_id) or any(
                one.number is None and one.event.event_id == body.event_id for one in plan.given
            ):
                return Answer({"event_id": body.event_id, "item": body.item, "status": "known"}, outcome="known")
            user, item, position = body.user, body.item, None
        else:
            user, item = shown.user, self._item_of(body, shown)
            position = list(shown.items).index(item)
            if state.answered.has(number, position) or any(
                one.number == number and one.event.position == position for one in plan.given
            ):
                return Answer({"event_id": body.event_id, "item": item, "status": "known"}, outcome="known")
        if isinstance(item, int) != state.codes.whole:
            kind = "a whole number" if state.codes.whole else "text"
            raise Problem(422, f"item: found {item!r}; expected {kind}, as all items are")
        values = self._values(body)
        row = self._row(user)
        (code,) = state.codes.find([item]).tolist()
        known = code >= 0 and bool(state.shelves[0].known[code])
        said = body.timestamp if body.timestamp is not None else clock if shown is None else shown.timestamp
        before = [one.event.timestamp for one in plan.given if one.row == row]
        event = Event(
            Kind.FEEDBACK,
            timestamp=max(said, state.people.last(row), *before),
            event_id=body.event_id,
            **_columns(user),
            given=body.timestamp,
            received=clock,
            policy=None if shown is None else shown.policy,
            arm=state.loaded[int(state.people.arm[row])].arm if shown is None else shown.arm,
            items=[item],
            propensities=[float("nan") if position is None or shown is None else shown.propensities[position]],
            feedback=values,
            dwell_ms=body.dwell_ms,
            position=position,
            known=known,
        )
        plan.events.append(event)
        plan.given.append(_Given(row, event, code, None if shown is None else number))
        outcome = "counted" if known else "unknown item"
        return Answer({"event_id": body.event_id, "item": item, "status": "counted"}, event.arm or "", outcome)

    def _shown(self, body: Feedback) -> tuple[int, _Shown | None]:
        """The recommendation that feedback is about, and its number; None where the id is not the server's own."""
        name, _, digits = body.event_id.rpartition("-")
        if name != self._id:
            return -1, None
        try:
            number = int(digits, 16)
            if f"{number:x}" != digits or not 0 <= number < self.log.next:
                raise ValueError
        except ValueError:
            raise Problem(404, f"event_id: found {body.event_id!r}; expected one of a recommendation") from None
        if self.state.answered.forgotten(number):
            hours = self.state.settings.feedback_hours
            raise Problem(
                410, f"event_id: {body.event_id} is of more than {hours:g} hours ago; expected feedback before"
            )
        shown = self._recent.get(number)
        if shown is None:
            row = self.log.read(number)
            if row["kind"] != Kind.RECOMMENDED:
                raise Problem(404, f"event_id: found {body.event_id!r}; expected one of a recommendation")
            user = row["user"] if row["user_number"] is None else row["user_number"]
            of_row = (row[name] for name in ("timestamp", "items", "propensities", "policy", "arm"))
            shown = self._hold(number, _Shown(user, *of_row))
        if body.user is not None and body.user != shown.user:
            raise Problem(422, f"user: found {body.user!r}; {body.event_id} is of {shown.user!r}")
        return number, shown

    @staticmethod
    def _item_of(body: Feedback, shown: _Shown) -> ItemId:
        if body.item is None and len(shown.items) == 1:
            return shown.items[0]
        if body.item is None or body.item not in shown.items:
            found = "nothing" if body.item is None else repr(body.item)
            raise Problem(422, f"item: found {found}; expected one of the {len(shown.items)} items of {body.event_id}")
        return body.item

    def _values(self, body: Feedback) -> list[float]:
        definition = self.state.policy.state
        for name, value in body.feedback.items():
            if name not in definition.feedback:
                raise Problem(
                    422, f"feedback.{name}: unknown; expected some of {', '.join(definition.feedback) or 'none'}"
                )
            kind = definition.feedback_kinds.get(name, "number")
            wrong = value not in (0, 1) if kind == "binary" else kind != "number" and value < 0
            if wrong or (kind == "count" and value != int(value)):
                raise Problem(422, f"feedback.{name}: found {value:g}; expected {_EXPECTED[kind]}")
        return [body.feedback.get(name, 0.0) for name in definition.feedback]


def _columns(user: UserId) -> dict[str, Any]:
    return {"user": user} if isinstance(user, str) else {"user_number": user}


def _user(event: Event) -> UserId:
    if event.user is not None:
        return event.user
    assert event.user_number is not None
    return event.user_number
