"""Random histories, and their states computed the slow and plain way, request by request."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from hypothesis import strategies as st

from prefrec_ray.engagement import session_numbers
from prefrec_ray.mdp.bulk import HistoryRows
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.state import StateDefinition

DEFINITION = StateDefinition(
    feedback=("click", "watch"),
    user_features={"age": ("young", "old"), "city": ("A", "B", "C")},
    action_dim=3,
    session_gap_ms=60_000,
    session_half_lives=(0, 2, 8),
    feedback_kinds={"watch": "seconds"},
)
ITEMS = ItemTable(np.array([40, 10, 30, 20]), np.random.default_rng(0).uniform(-1, 1, (4, 3)))
GAPS = (0, 0, 1, 900, 60_000, 60_001, 3_600_000, 5 * 86_400_000)


@dataclass
class Request:
    timestamp: int
    session_id: int
    item: int
    feedback: tuple[float, float]
    dwell: float  # NaN: unknown
    joins: bool = False  # on the page of the request before; counts only with `paged`


@st.composite
def histories(draw, max_users=5, max_requests=14):
    """One list of requests a user; at least one request each."""
    users = []
    for _ in range(draw(st.integers(1, max_users))):
        now, requests = draw(st.integers(0, 2_000_000_000_000)), []
        for _ in range(draw(st.integers(1, max_requests))):
            now += draw(st.sampled_from(GAPS))
            requests.append(
                Request(
                    now,
                    draw(st.sampled_from([7, 8])),
                    draw(st.sampled_from([10, 20, 30, 40])),
                    (draw(st.sampled_from([0.0, 1.0])), draw(st.floats(0, 50, width=32))),
                    draw(st.sampled_from([np.nan, 0.0, 500.0, 90_000.0])),
                    draw(st.booleans()),
                )
            )
        users.append(requests)
    return users


def profiles(count):
    """Features of `count` users: known ones, a null, a value of no category."""
    age = np.array(["young", None, "old", "ancient"], dtype=object)
    return {"age": np.resize(age, count), "city": np.resize(np.array(["C", "A", None], dtype=object), count)}


def page_numbers(users):
    """The number of each request's page in the history of its user."""
    numbers = [np.cumsum([0, *(not request.joins for request in requests[1:])]) for requests in users]
    return np.concatenate(numbers).astype(np.int64)


def as_rows(users, by_id=False, with_dwell=True, paged=False):
    """The same as the sorted arrays of `raw_states`; a page has the time and the session id of its first request."""
    if paged:
        users = [first_of_page(requests) for requests in users]
    flat = [request for requests in users for request in requests]
    user = np.repeat(np.arange(len(users)), [len(requests) for requests in users])
    timestamp = np.array([r.timestamp for r in flat])
    ids = np.array([r.session_id for r in flat]) if by_id else None
    return HistoryRows(
        starts=np.cumsum([0, *(len(requests) for requests in users)])[:-1],
        timestamp=timestamp,
        session=session_numbers(user, timestamp, DEFINITION.session_gap_ms, ids),
        feedback=np.array([r.feedback for r in flat], dtype=np.float32),
        embeddings=ITEMS.embeddings[ITEMS.rows(np.array([r.item for r in flat]))],
        profile=DEFINITION.one_hot(profiles(len(users))),
        dwell_ms=np.array([r.dwell for r in flat]) if with_dwell else None,
        step=page_numbers(users) if paged else None,
    )


def first_of_page(requests):
    """The requests with time and session id of the first request of their page."""
    changed = []
    for number, request in enumerate(requests):
        first = changed[-1] if number and request.joins else request
        changed.append(replace(request, timestamp=first.timestamp, session_id=first.session_id))
    return changed


def plain_mean(values, half_life):
    """sum d^k x / sum d^k over `values`, newest last; 0 if empty."""
    if not values:
        return 0.0
    if half_life == 0:
        return values[-1]
    weights = [0.5 ** (k / half_life) for k in range(len(values))][::-1]
    return sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)


def plain_state(rows, user, i):
    """The state (list of floats) of request `i` of `user`, from those before it and its own time and session."""
    a = rows.starts[user]
    step = np.arange(len(rows.timestamp)) - a if rows.step is None else rows.step
    i = next(k for k in range(i + 1) if step[a + k] == step[a + i])  # the first of the page
    past = range(a, a + i)
    now, session = int(rows.timestamp[a + i]), int(rows.session[a + i])

    def exit_of(number):
        last = max(r for r in past if rows.session[r] == number)
        page = [r for r in past if step[r] == step[last]]
        dwell = [] if rows.dwell_ms is None else [round(d) for d in rows.dwell_ms[page] if not np.isnan(d)]
        return int(rows.timestamp[last]) + sum(dwell)

    depths, returns = [], []
    for number in range(session):
        depths.append(np.log1p(len({step[r] for r in past if rows.session[r] == number})))
        later = [int(rows.timestamp[r]) for r in range(a, a + i + 1) if rows.session[r] == number + 1]
        returns.append(np.log1p(max(later[0] - exit_of(number), 1) / 1000))

    state = list(rows.profile[user])
    clicks, watched = ([float(rows.feedback[r, f]) for r in past] for f in range(2))
    for h in DEFINITION.feedback_half_lives:
        state += [plain_mean(clicks, h), plain_mean([np.log(1 + seconds) for seconds in watched], h)]
    for h in DEFINITION.item_half_lives:
        state += [plain_mean([float(rows.embeddings[r, k]) for r in past], h) for k in range(3)]
    for h in DEFINITION.taste_half_lives:
        for values in (clicks, [np.log(1 + seconds) for seconds in watched]):
            # Feedback minus the mean feedback of the last few impressions, times embedding minus their mean embedding.
            beyond = [value - plain_mean(values[:r], 5) for r, value in enumerate(values)]
            for k in range(3):
                axis = [float(rows.embeddings[r, k]) for r in past]
                shown = [value - plain_mean(axis[:r], 8) for r, value in enumerate(axis)]
                state.append(plain_mean([b * s for b, s in zip(beyond, shown, strict=True)], h))
    for h in DEFINITION.session_half_lives:
        state += [plain_mean(depths, h), plain_mean(returns, h)]

    clock = datetime.fromtimestamp(now / 1000, UTC)
    turn = 2 * np.pi * (now % 86_400_000) / 86_400_000
    state += [np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)]
    state += [float(clock.weekday() == day) for day in range(7)]

    position = len({step[r] for r in past if rows.session[r] == session})
    since_exit = max(now - exit_of(session - 1), 0) if session else 0
    since_request = now - int(rows.timestamp[a + i - 1]) if i else 0
    state += [np.log1p(since_exit / 1000), np.log1p(since_request / 1000), np.log1p(position), float(position == 0)]
    state += [np.log1p(step[a + i]), np.log1p(session), np.log1p((now - int(rows.timestamp[a])) / 86_400_000)]
    return state
