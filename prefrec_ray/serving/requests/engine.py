"""Engine of a server: plans the log rows of a batch of HTTP requests, and applies them after they are on disk."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray.logs.events.format import CLOCKS_MS, Event, Kind, batch_of
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.requests.bodies import Feedback, FeedbackBatch, Recommend, RecommendBatch
from prefrec_ray.serving.requests.feedback import Entry, Recommendations, entries_of, find_user, user_of
from prefrec_ray.serving.requests.pages import Page, check_page, draw_pages
from prefrec_ray.serving.state.counted_feedback import Key
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import UserId
from prefrec_ray.web.problems import Problem, within

Command = Recommend | RecommendBatch | Feedback | FeedbackBatch


@dataclass(frozen=True)
class Reply:
    """The body of a reply, and labels of its metrics: the arm of a recommendation, or the outcomes of feedback.

    A reply to several requests has a part for each, with labels of its own.
    """

    body: dict[str, Any]
    arm: str = ""
    outcomes: Sequence[str] = ()
    parts: Sequence[Reply] = ()


@dataclass
class BatchPlan:
    """The rows of a batch, recommendations first, and what planning needs to know about them."""

    users: int  # number of users before
    events: list[Event] = field(default_factory=list)
    replies: list[Reply | Problem] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)  # of feedback in `events`
    latest: dict[int, int] = field(default_factory=dict)  # time of the last feedback in `events`, by row of the user
    described: list[tuple[int, np.ndarray]] = field(default_factory=list)  # row of the user, features before


class Engine:
    """Plans and applies batches, for one caller at a time. `log_id` is the prefix of the event ids that it assigns."""

    def __init__(self, state: ServedState, log: EventLog, log_id: str, seed: int | None = None) -> None:
        self.state, self.log, self._id = state, log, log_id
        self._given = Recommendations(log, log_id)
        self._rng = np.random.default_rng(seed)

    def plan(self, commands: Sequence[Command], clock: int) -> BatchPlan:
        """Return the rows to log and the replies. `clock` is the server's time, ms.

        The state gets new users and features of users until `give_up`; nothing else changes.
        """
        self.state.answered.forget(clock)  # hours may have passed since the last row
        plan = BatchPlan(len(self.state.users), replies=[Problem(500, "not answered")] * len(commands))
        try:
            self._recommend(plan, commands, clock)
            for place, command in enumerate(commands):
                if isinstance(command, Feedback | FeedbackBatch):
                    try:
                        plan.replies[place] = self._feedback(plan, command, clock)
                    except Problem as problem:
                        plan.replies[place] = problem
        except BaseException:
            self.give_up(plan)
            raise
        return plan

    def take_in(self, plan: BatchPlan, first: int) -> None:
        """Apply the rows of `plan`, which are on disk from number `first` on, as a restart does."""
        self.state.apply(pa.Table.from_batches([batch_of(plan.events, first, self.log.schema)]))
        self.log.needed = self.state.answered.start
        for number, event in enumerate(plan.events, first):
            if event.kind == Kind.RECOMMENDED:
                self._given.remember(number, event)

    def give_up(self, plan: BatchPlan) -> None:
        """Restore users and their features if the rows of `plan` could not be written."""
        for row, before in reversed(plan.described):
            self.state.undescribe(row, before)
        self.state.keep_users(plan.users)

    def _row(self, user: UserId) -> int:
        row = find_user(self.state, user)
        if row is None:
            row = len(self.state.users)
            self.state.add_users([user])
        return row

    def _recommend(self, plan: BatchPlan, commands: Sequence[Command], clock: int) -> None:
        state, requests = self.state, []
        for place, command in enumerate(commands):
            if not isinstance(command, Recommend | RecommendBatch):
                continue
            try:  # everything is checked in advance, since a refused command adds no user
                self._check_requests(command, clock)
            except Problem as problem:
                plan.replies[place] = problem
                continue
            for body in command.parts.values():
                row = self._row(body.user)
                if body.features is not None:
                    plan.described.append((row, state.describe(row, body.features)))
                wanted = clock if body.timestamp is None else body.timestamp
                requests.append((place, body, row, _in_order(wanted, state.users.last(row), clock)))
        if not requests:
            return
        _, bodies, rows, times = zip(*requests, strict=True)
        pages = draw_pages(state, bodies, np.array(rows), np.array(times), self._rng)
        replies = defaultdict(list)
        for (place, body, row, now), page in zip(requests, pages, strict=True):
            replies[place].append(self._show(plan, body, row, page, now, clock))
        for place, parts in replies.items():
            several = Reply({"replies": [part.body for part in parts]}, parts=parts)
            plan.replies[place] = parts[0] if isinstance(commands[place], Recommend) else several

    def _check_requests(self, command: Recommend | RecommendBatch, clock: int) -> None:
        first = next(iter(command.parts.values())).user
        for prefix, body in command.parts.items():
            with within(prefix):
                _check_time(body, clock)
                check_page(self.state, body)
                find_user(self.state, body.user)
                if type(body.user) is not type(first):
                    raise Problem(422, f"user: found {body.user!r}; expected an id of the same type as {first!r}")

    def _show(self, plan: BatchPlan, body: Recommend, row: int, page: Page, now: int, clock: int) -> Reply:
        """Plan the row of a recommendation, and return its reply."""
        one = self.state.loaded[int(self.state.users.arm[row])]
        event = Event(
            Kind.RECOMMENDED,
            timestamp=now,
            event_id=f"{self._id}-{self.log.next + len(plan.events):x}",
            **_user_columns(body.user),
            given=body.timestamp,
            received=clock,
            policy=one.digest,
            arm=one.arm,
            items=page.items,
            propensities=page.propensities,
            note=None if body.features is None else json.dumps(body.features),
        )
        plan.events.append(event)
        known = [None if np.isnan(chance) else chance for chance in page.propensities]  # JSON has no NaN
        reply: dict[str, Any] = {"items": page.items, "propensities": known, "policy": one.digest, "arm": one.arm}
        if page.unknown is not None:
            reply["unknown"] = page.unknown
        if len(page.items) < body.k:
            reply["short"] = body.k - len(page.items)
        return Reply({"event_id": event.event_id, **reply}, one.arm)

    def _feedback(self, plan: BatchPlan, command: Feedback | FeedbackBatch, clock: int) -> Reply:
        """Plan the rows of feedback on one or several items, all or none. Raises `Problem`."""
        _check_time(command, clock)
        number, shown = self._given.find(command, self.state)
        entries = entries_of(command, number, shown, self.state, plan.keys)
        user = command.user if shown is None else user_of(shown)
        assert user is not None  # checked with the entries
        new = [entry.item for entry in entries if entry.values is not None]
        codes = dict(zip(new, self.state.codes.find(self.state.codes.typed(new)).tolist(), strict=True))
        outcomes, items = [], []
        for entry in entries:
            outcome = "known"
            if entry.values is not None:
                outcome = self._count(plan, command, entry, codes[entry.item], user, shown, clock)
            outcomes.append(outcome)
            items.append({"item": entry.item, "status": "known" if outcome == "known" else "counted"})
        body: dict[str, Any] = items[0] if isinstance(command, Feedback) else {"items": items}
        return Reply({"event_id": command.event_id, **body}, outcomes=outcomes)

    def _count(
        self,
        plan: BatchPlan,
        command: Feedback | FeedbackBatch,
        entry: Entry,
        code: int,
        user: UserId,
        shown: Event | None,
        clock: int,
    ) -> str:
        """Plan the row of feedback on an item with this `code`, and return its outcome for the metrics."""
        state, row = self.state, self._row(user)
        known = code >= 0 and bool(state.shelves[0].known[code])
        timestamp = clock if shown is None else shown.timestamp
        timestamp = timestamp if command.timestamp is None else command.timestamp
        timestamp = _in_order(timestamp, plan.latest.get(row, state.users.last(row)), clock)
        source: dict[str, Any] = {"arm": state.loaded[int(state.users.arm[row])].arm, "propensities": [float("nan")]}
        if shown is not None and shown.propensities is not None and entry.position is not None:
            source = {"policy": shown.policy, "arm": shown.arm, "position": entry.position}
            source["propensities"] = [shown.propensities[entry.position]]
        event = Event(
            Kind.FEEDBACK,
            timestamp=timestamp,
            event_id=command.event_id,
            **_user_columns(user),
            given=command.timestamp,
            received=clock,
            items=[entry.item],
            feedback=entry.values,
            dwell_ms=entry.dwell_ms,
            known=known,
            **source,
        )
        plan.events.append(event)
        plan.keys.add(entry.key)
        plan.latest[row] = timestamp
        return "counted" if known else "unknown item"


def _check_time(body: Recommend | Feedback | FeedbackBatch, clock: int) -> None:
    if body.timestamp is not None and body.timestamp > clock + CLOCKS_MS:
        raise Problem(
            422, f"timestamp: found {body.timestamp}; expected at most 10 minutes after the server's clock, {clock}"
        )


def _in_order(time: int, last: int, clock: int) -> int:
    """Return the time of an event: not before the user's `last`, unless that is the result of a wrong clock."""
    return time if last > clock + CLOCKS_MS else max(time, last)


def _user_columns(user: UserId) -> dict[str, Any]:
    """Return the id of a user as a column of the log."""
    return {"user": user} if isinstance(user, str) else {"user_number": user}
