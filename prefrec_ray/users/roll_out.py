"""Roll-outs of policies in models of users: levels and inputs of the models under the policy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prefrec_ray.engagement import SessionTable, levels_against, session_table, user_means
from prefrec_ray.ids import places_in_runs
from prefrec_ray.mdp.examination import Examination
from prefrec_ray.mdp.excluded import DAY_MS, HOUR_MS, LastShown
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.users import WARM
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Past
from prefrec_ray.users.member import Member, Outcomes, known_before

#: Interval, in impressions, at which inputs are recorded, from WARM on.
KEPT_EVERY = 8
#: Equally long parts of a user's impressions, whose levels the back-test compares with each other.
PARTS = 8


class Visit(NamedTuple):
    """Inputs of a server for n users at impression number `step`, which opens a page of `page` items."""

    states: np.ndarray  # float32 [n, S], scaled
    step: int
    page: int
    seen: np.ndarray | None  # bool [n, I], items that rest
    recent: Callable[[], np.ndarray]  # kinds of the last impressions, int32 [n, MEMORY, K]


#: Returns item rows [n, page] for a visit; [n] for pages of one item.
Server = Callable[[Visit], np.ndarray]


@dataclass(frozen=True)
class Platform:
    """Common inputs of roll-outs: items and states of a data set, and some users of `data` (`users`, int64 [n]).

    Users start without a history at the time of their first logged impression. `weight`: weight of depth in the
    mixture. `rest_ms`: rest of items, as the server that is rolled out has it; 0 excludes no item. Users see pages of
    the log's typical length, `requests` impressions in all (the last page is whole).
    """

    state: StateDefinition
    normaliser: Normaliser
    items: ItemTable
    data: Histories
    users: np.ndarray
    weight: float
    requests: int
    rest_ms: float = math.inf

    @property
    def page(self) -> int:
        """Return the median number of items of the log's pages."""
        return round(float(np.median(self.data.pages.sizes)))

    @property
    def pages(self) -> int:
        return -(-self.requests // self.page)


@dataclass(frozen=True)
class Imagined:
    """Means over the sessions of each user in each of K models, float64 [K, n]; NaN for a user without sessions."""

    levels: dict[str, np.ndarray]  # by task
    parts: dict[str, np.ndarray]  # by task, means over the sessions that begin in each part, [K, n, PARTS]
    depth: np.ndarray  # impressions
    revisit_hours: np.ndarray
    inputs: np.ndarray  # float32 [T, K n, W], inputs at T impressions, as `Inputs.logged`; NaN: not examined
    part: np.ndarray  # int64 [T], part of each of these impressions
    counts: np.ndarray  # int64 [I], impressions of each item
    sessions: int  # of all users, the mean over models
    rows: np.ndarray  # int32 [K, n, R], items shown to each user
    feedback: np.ndarray  # float64 [K, n, F], means over impressions
    daily_sessions: np.ndarray  # sessions per day; NaN for a user with one session
    ceiling: float = 1.0  # largest possible share of one item among those shown


class Step(NamedTuple):
    """One impression of n users in K models: rows [k n, (k + 1) n) are the users in model k."""

    position: int  # on the page
    now: np.ndarray  # int64, ms, of the page
    session: np.ndarray  # int64, from 0 for each user
    rows: np.ndarray  # int64, items
    examined: np.ndarray  # bool
    raw: np.ndarray  # float32 [K n, W], inputs of the models, as from `Inputs.logged`
    feedback: np.ndarray  # float32 [K n, F]
    ends: np.ndarray  # bool: the session ends with the page
    wait_ms: np.ndarray  # float64, to the next page
    known: np.ndarray  # float32 [K n, D] (`known_before`)
    expected: np.ndarray  # float64 [K n, 2], of the page, as in `Outcomes`


class Traits(NamedTuple):
    """Traits of n users from their whole logs, in K models."""

    tastes: np.ndarray  # float32 [n, F, A]
    intercepts: np.ndarray  # float32 [K, n, 2]

    @classmethod
    def find(cls, platform: Platform, models: Sequence[Member]) -> Traits:
        """Find the traits of the platform's users, which do not depend on a server."""
        users, copy = np.unique(platform.users, return_inverse=True)
        inputs = models[0].inputs  # the same for all members of an ensemble
        logged = platform.data.take(users).examined_only(inputs.kinds)
        made = inputs.scaled(inputs.logged(logged))
        return cls(inputs.tastes(logged)[copy], np.stack([model.intercepts(logged, made)[copy] for model in models]))


def simulate(
    platform: Platform, models: Sequence[Member], server: Server, seed: int, traits: Traits | None = None
) -> Iterator[Step]:
    """Simulate the platform's users in every model at once, impression by impression.

    Equal seeds give equal random numbers for any server. `traits`: `Traits.find`, if it was called before.
    """
    data, copies = platform.data, len(models)
    of, inputs = np.tile(platform.users, copies), models[0].inputs
    tastes, intercepts = traits or Traits.find(platform, models)
    tracker = StateTracker(platform.state, platform.normaliser, platform.items, len(of))
    tracker.describe(np.arange(len(of)), _profiles(platform, of))
    past, rng = Past(inputs, np.tile(tastes, (copies, 1, 1))), np.random.default_rng(seed)
    now, session = data.timestamp[data.starts[of]].copy(), np.zeros(len(of), np.int64)
    opened = np.zeros(len(of), np.int64)  # number of the first impression of the session
    shown = LastShown(len(of), len(platform.items)) if platform.rest_ms else None
    size, examination = platform.page, Examination.from_pages(data.pages, data.examined)
    for number in range(platform.pages):
        state = tracker.states(now, session_ids=session)
        seen = None if shown is None else shown.resting(now, platform.rest_ms)
        page = server(Visit(state, number * size, size, seen, tracker.recent)).reshape(len(of), size)
        examined = np.ones(page.shape, bool) if examination is None else examination.draw(len(of), size, rng)
        each: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        drawn: list[Outcomes] | list[None] = [None] * copies
        for rows, seen in zip(page.T, examined.T, strict=True):
            raw = past.inputs(state, rows, platform.items.embeddings[rows])
            known = known_before(past.exposure, np.full(len(of), number * size + len(each)), now, opened)
            parts = inputs.scaled(raw.copy()).reshape(copies, len(platform.users), -1)
            drawn = outcomes = [
                model.step(part, own, rng, before, seen_of, known_of)
                for model, own, part, before, seen_of, known_of in zip(
                    models,
                    intercepts,
                    parts,
                    drawn,
                    seen.reshape(copies, -1),
                    known.reshape(*parts.shape[:2], -1),
                    strict=True,
                )
            ]
            feedback = np.concatenate([outcome.feedback for outcome in outcomes])
            past.observe(feedback, seen)
            each.append((rows, raw, feedback, seen, known))
        ends, wait_ms, expected = (
            np.concatenate([getattr(outcome, name) for outcome in outcomes]) for name in ("ends", "wait_ms", "expected")
        )
        for position, (rows, raw, feedback, seen, known) in enumerate(each):
            yield Step(position, now, session, rows, seen, raw, feedback, ends, wait_ms, known, expected)
            at = np.flatnonzero(seen)
            named = dict(zip(platform.state.feedback, feedback[at].T, strict=True))
            page_of = np.full(len(at), number)
            tracker.observe(now[at], platform.items.ids[rows[at]], named, session[at], users=at, pages=page_of)
            if shown is not None:
                shown.show(now[at], rows[at], at)
        # After all items the exclusion restarts, like the logged items.
        if shown is not None and math.isinf(platform.rest_ms) and (number + 1) * size % len(platform.items) < size:
            shown.forget()
        now, session = now + wait_ms.astype(np.int64), session + ends
        opened[ends] = (number + 1) * size


def roll_out(
    platform: Platform, models: Sequence[Member], server: Server, seed: int, traits: Traits | None = None
) -> Imagined:
    """Roll out every user in every model at once (`simulate`)."""
    data, copies, count = platform.data, len(models), len(platform.users)
    of = np.tile(platform.users, copies)
    times, sessions, kept, numbers, shown = [], [], [], [], []
    feedback = np.zeros((len(of), len(platform.state.feedback)))
    counts, warm = np.zeros(len(platform.items), np.int64), WARM * data.shown_per_examined
    # Each position of a page is recorded equally often.
    every = next(n for n in itertools.count(KEPT_EVERY) if math.gcd(n, platform.page) == 1)
    for number, step in enumerate(simulate(platform, models, server, seed, traits)):
        if number >= warm and number % every == 0:
            kept.append(np.where(step.examined[:, None], step.raw, np.float32(np.nan)))
            numbers.append(number)
        if step.position == 0:
            times.append(step.now)
            sessions.append(step.session)
        shown.append(step.rows.astype(np.int32))
        feedback += step.feedback
        counts += np.bincount(step.rows, minlength=len(counts))
    user = np.repeat(np.arange(len(of)), platform.pages)
    table = session_table(user, np.stack(times, axis=1).ravel(), np.stack(sessions, axis=1).ravel())
    levels = levels_against(table, data.mean_depth[of], data.mean_revisit_ms[of], platform.weight)

    def means(values: np.ndarray) -> np.ndarray:
        return user_means(table.user, values, len(of)).reshape(copies, count)

    part = _part_of(table.first_row - table.user * platform.pages, platform.pages)
    return Imagined(
        levels={task: means(level) for task, level in levels.items()},
        parts={
            task: _part_means(table.user, part, level, len(of)).reshape(copies, count, PARTS)
            for task, level in levels.items()
        },
        depth=means(platform.page * table.depth.astype(np.float64)),
        revisit_hours=means(table.revisit_ms / HOUR_MS),
        inputs=np.stack(kept) if kept else np.empty((0, len(of), models[0].inputs.width), np.float32),
        part=_part_of(np.array(numbers, np.int64), len(shown)),
        counts=counts,
        ceiling=_ceiling(platform),
        sessions=len(table) // copies,
        rows=np.stack(shown, axis=1).reshape(copies, count, -1),
        feedback=(feedback / len(shown)).reshape(copies, count, -1),
        daily_sessions=_daily_sessions(table, len(of)).reshape(copies, count),
    )


def _part_of(number: np.ndarray, count: int) -> np.ndarray:
    """Return the part, int64 from 0, of entries with these numbers among `count` entries."""
    return number * PARTS // count


def _part_means(user: np.ndarray, part: np.ndarray, values: np.ndarray, users: int) -> np.ndarray:
    """Return the means of `values` by user and part, float64 [users, PARTS]; NaN for none."""
    return user_means(user * PARTS + part, values, users * PARTS).reshape(users, PARTS)


def _ceiling(platform: Platform) -> float:
    """Return the largest possible share of one item, below 1 if items rest for ever."""
    if math.isfinite(platform.rest_ms):
        return 1.0
    return math.ceil(platform.requests / len(platform.items)) / platform.requests


def _daily_sessions(table: SessionTable, users: int) -> np.ndarray:
    """Return the sessions per day of each user [users] between the starts of the first and of the last session."""
    first, last = (np.searchsorted(table.user, np.arange(users), side=side) for side in ("left", "right"))
    days = (table.start[last - 1] - table.start[first]) / DAY_MS
    return np.divide(last - 1 - first, days, out=np.full(users, np.nan), where=days > 0)


def logged_levels(platform: Platform) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the mean logged level of each of the platform's users by task, float64 [n], and of each part [n, PARTS].

    NaN: no level. Means are over as many impressions as a roll-out has, which should reproduce them with the logged
    items. In a log of many nights later impressions come from other policies.
    """
    data = platform.data.take(platform.users)
    place = places_in_runs(data.starts, len(data.timestamp))
    first = (place < platform.requests) & data.opens
    table = session_table(data.user[first], data.timestamp[first], data.session[first])
    levels = levels_against(table, data.mean_depth, data.mean_revisit_ms, platform.weight)
    users, part = len(data.starts), _part_of(place[first][table.first_row], platform.requests)
    return (
        {task: user_means(table.user, level, users) for task, level in levels.items()},
        {task: _part_means(table.user, part, level, users) for task, level in levels.items()},
    )


def _profiles(platform: Platform, users: np.ndarray) -> np.ndarray:
    """Return the features of `users` [n], as one-hot columns float32 [n, P], from their scaled first states."""
    data, columns = platform.data, platform.state.groups["profile"]
    first = data.state[data.starts[users]][:, columns]
    mean, std = (np.asarray(part)[columns] for part in (platform.normaliser.mean, platform.normaliser.std))
    profiles, start = first * std + mean, columns.start
    for categories in platform.state.user_features.values():
        end = start + len(categories) + 1
        # The largest column: the columns of rare categories are clipped in a scaled state.
        profiles[:, start:end] = np.eye(end - start)[profiles[:, start:end].argmax(axis=1)]
        start = end
    return profiles
