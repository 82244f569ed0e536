"""Engine of a server: plans the log rows of a batch of HTTP requests, and applies them after they are on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.requests.draw import draw_items
from prefrec_ray.serving.requests.feedback import Recommendations, item_of, user_of, values_of
from prefrec_ray.serving.settings import INCUMBENT
from prefrec_ray.serving.state.counted_feedback import Key
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import UserId
from prefrec_ray.web.problems import Problem

Command = Recommend | Feedback

#: Most ms by which a client's clock may be ahead. A user's events are logged in time order.
_AHEAD = 600_000


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


class Engine:
    """Plans and applies batches, for one caller at a time. `log_id` is the prefix of the event ids that it assigns."""

    def __init__(self, state: ServedState, log: EventLog, log_id: str, seed: int | None = None) -> None:
        self.state, self.log, self._id = state, log, log_id
        self._given = Recommendations(log, log_id)
        self._rng = np.random.default_rng(seed)

    def plan(self, commands: Sequence[Command], clock: int) -> BatchPlan:
        """Return the rows to log and the replies. `clock` is the server's time, ms.

        The state gets new users and features of users, which `give_up` restores; nothing else changes.
        """
        self.state.answered.forget(clock)  # hours may have passed since the last row
        plan = BatchPlan(replies=[Problem(500, "not answered")] * len(commands))
        self._recommend(plan, commands, clock)
        for place, command in enumerate(commands):
            if isinstance(command, Feedback):
                try:
                    plan.replies[place] = self._feedback(plan, command, clock)
                except Problem as problem:
                    plan.replies[place] = problem
        return plan

    def take_in(self, plan: BatchPlan, first: int, clock: int) -> None:
        """Apply the rows of `plan`, which are on disk from number `first` on."""
        state, leave_out = self.state, self.state.settings.leave_out
        for number, (row, codes) in enumerate(plan.shown, first):
            if leave_out == "recommended":
                state.users.see(row, codes, plan.events[number - first].timestamp)
            self._given.remember(number, plan.events[number - first])
        state.advance(first + len(plan.events), clock)
        self.log.needed = state.answered.start
        for one in plan.given:
            state.answered.add(one.key, clock)
            unseen = leave_out == "answered" or (leave_out == "recommended" and one.event.position is None)
            if unseen and one.code >= 0:
                state.users.see(one.row, [one.code], one.event.timestamp)
        if plan.given:
            self._observe(plan.given)

    def _observe(self, given: list[Given]) -> None:
        rows, codes = np.array([one.row for one in given]), np.array([one.code for one in given])
        times = np.array([one.event.timestamp for one in given])
        values = np.array([one.event.feedback for one in given], np.float32).reshape(len(rows), -1)
        dwell = np.array([np.nan if one.event.dwell_ms is None else one.event.dwell_ms for one in given])
        known = np.array([bool(one.event.known) for one in given])
        self.state.users.came(rows, times)
        self.state.observe(rows[known], codes[known], times[known], values[known], dwell[known])

    def give_up(self, plan: BatchPlan) -> None:
        """Restore the features of users if the rows of `plan` could not be written."""
        for row, before in reversed(plan.described):
            self.state.undescribe(row, before)

    def _row(self, user: UserId) -> int:
        try:
            row = self.state.users.find(user)
        except UserError as error:
            raise Problem(422, str(error)) from error
        if row is None:
            row = len(self.state.users)
            self.state.add_users([user])
        return row

    def _recommend(self, plan: BatchPlan, commands: Sequence[Command], clock: int) -> None:
        state, requests = self.state, []
        for place, body in enumerate(commands):
            if isinstance(body, Recommend):
                try:
                    self._check_time(body, clock)
                    self._check_features(body)
                    self._check_incumbent(body)
                    row = self._row(body.user)
                except Problem as problem:
                    plan.replies[place] = problem
                    continue
                if body.features is not None:
                    plan.described.append((row, state.describe(row, body.features)))
                requests.append((place, body, row))
        if not requests:
            return
        places, bodies, rows = zip(*requests, strict=True)
        times = [
            max(clock if body.timestamp is None else body.timestamp, state.users.last(row)) for _, body, row in requests
        ]
        drawn = draw_items(state, bodies, np.array(rows), np.array(times), self._rng)
        for place, body, row, now, (ids, chances) in zip(places, bodies, rows, times, drawn, strict=True):
            one = state.loaded[int(state.users.arm[row])]
            event = Event(
                Kind.RECOMMENDED,
                timestamp=now,
                event_id=f"{self._id}-{self.log.next + len(plan.events):x}",
                **_user_columns(body.user),
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
            known = [None if np.isnan(chance) else chance for chance in chances]  # JSON has no NaN
            reply = {"items": ids, "propensities": known, "policy": one.digest, "arm": one.arm}
            short = {"short": body.k - len(ids)} if len(ids) < body.k else {}
            plan.replies[place] = Reply({"event_id": event.event_id, **reply, **short}, one.arm)

    def _check_time(self, body: Command, clock: int) -> None:
        now = max(clock, self.state.answered.latest)  # a clock that jumped back must not refuse correct times
        if body.timestamp is not None and body.timestamp > now + _AHEAD:
            raise Problem(
                422, f"timestamp: found {body.timestamp}; expected at most 10 minutes after the server's clock, {now}"
            )

    def _check_features(self, body: Recommend) -> None:
        known = self.state.policy.state.user_features
        for name in body.features or ():
            if name not in known:
                raise Problem(422, f"features.{name}: unknown feature; expected some of {', '.join(known) or 'none'}")

    def _check_incumbent(self, body: Recommend) -> None:
        if self.state.loaded[0].digest != INCUMBENT:
            return
        if body.incumbent is None:
            raise Problem(422, "incumbent: missing; expected items: no policy of the main arm is promoted yet")
        for item in body.incumbent:
            if isinstance(item, int) != self.state.codes.whole:
                raise Problem(422, f"incumbent: found {item!r}; expected {self.state.codes.kind}, as for all items")

    def _feedback(self, plan: BatchPlan, body: Feedback, clock: int) -> Reply:
        self._check_time(body, clock)
        state = self.state
        number, shown = self._given.find(body, state)
        key: Key
        if shown is not None:
            items = list(shown.items or ())
            user, item = user_of(shown), item_of(body, items)
            key = number, items.index(item)
        elif body.user is None or body.item is None:
            raise Problem(
                404, f"event_id: found {body.event_id!r}; expected the id of a recommendation, or user and item"
            )
        else:
            user, item = body.user, body.item
            key = body.event_id, user, item
        reply = {"event_id": body.event_id, "item": item}
        if state.answered.has(key) or any(one.key == key for one in plan.given):
            return Reply({**reply, "status": "known"}, outcome="known")
        if isinstance(item, int) != state.codes.whole:
            raise Problem(422, f"item: found {item!r}; expected {state.codes.kind}, as for all items")
        values = values_of(body, state.policy.state)
        row = self._row(user)
        (code,) = state.codes.find(state.codes.array([item])).tolist()
        known = code >= 0 and bool(state.shelves[0].known[code])
        timestamp = body.timestamp if body.timestamp is not None else clock if shown is None else shown.timestamp
        before = [one.event.timestamp for one in plan.given if one.row == row]
        event = Event(
            Kind.FEEDBACK,
            timestamp=max(timestamp, state.users.last(row), *before),
            event_id=body.event_id,
            **_user_columns(user),
            given=body.timestamp,
            received=clock,
            arm=state.loaded[int(state.users.arm[row])].arm,
            items=[item],
            propensities=[float("nan")],
            feedback=values,
            dwell_ms=body.dwell_ms,
            known=known,
        )
        if shown is not None and shown.propensities is not None:
            position = items.index(item)
            of_shown: dict[str, Any] = {"policy": shown.policy, "arm": shown.arm, "position": position}
            event = replace(event, **of_shown, propensities=[shown.propensities[position]])
        plan.events.append(event)
        plan.given.append(Given(row, event, code, key))
        outcome = "counted" if known else "unknown item"
        return Reply({**reply, "status": "counted"}, event.arm or "", outcome)


def _user_columns(user: UserId) -> dict[str, Any]:
    """Return the id of a user as a column of the log."""
    return {"user": user} if isinstance(user, str) else {"user_number": user}
