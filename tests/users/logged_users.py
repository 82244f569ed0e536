"""Histories of users who follow a written law."""

from dataclasses import replace

import numpy as np

from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.exposure import exposures
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Inputs

STATE = StateDefinition(feedback=("like",), user_features={"sex": ("f", "m")}, action_dim=2)
NORMALISER = Normaliser(np.zeros(STATE.width), np.ones(STATE.width))
ITEMS = ItemTable(np.arange(50) * 10, np.random.default_rng(5).uniform(-1, 1, (50, 2)).astype(np.float32))
HOUR = 3_600_000.0
NOISE = 0.3


def histories(users: int = 300, requests: int = 60, seed: int = 0, cost_of_repeats: float = 0.0) -> Histories:
    """like ~ P(a_0 > 0) = .8 or .2; a session ends after a like with .1, else with .5; a user who liked the item comes
    back after half of the time, times a factor of the user, times noise. The time grows by exp(`cost_of_repeats`) if
    more than 4 of the last 30 impressions were of the item's kind."""
    rng = np.random.default_rng(seed)
    n = users * requests
    row = rng.integers(0, len(ITEMS), n)
    starts = np.arange(users) * requests
    action, exposure = ITEMS.embeddings[row], exposures(starts, row, ITEMS.kinds)
    like = rng.random(n) < np.where(action[:, 0] > 0, 0.8, 0.2)
    ends = rng.random(n) < np.where(like, 0.1, 0.5)
    own = np.repeat(np.exp(rng.normal(size=users)), requests)
    away = HOUR * own * np.where(like, 0.5, 1.0) * np.exp(NOISE * rng.normal(size=n))
    away *= np.where(exposure[:, 1] > 4, np.exp(cost_of_repeats), 1.0)
    wait = np.where(ends, away, 1000.0 * rng.integers(1, 4, n))
    first = np.zeros(n, bool)
    first[starts] = True
    time = np.cumsum(np.where(first, 0, np.roll(wait, 1)))
    session = np.cumsum(np.where(first, 0, np.roll(ends, 1)))
    user = np.arange(n) // requests
    last = np.zeros(n, bool)
    last[starts + requests - 1] = True
    gone = np.where(ends & ~last, wait, np.nan).reshape(users, requests)
    timestamp, session = np.int64(time - time[starts][user] + 1.7e12), session - session[starts][user]
    feedback, profile = like[:, None].astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(users) % 3]
    return Histories(
        starts=starts,
        timestamp=timestamp,
        session=session,
        row=row,
        state=raw_states(STATE, HistoryRows(starts, timestamp, session, feedback, action, profile)),
        action=action,
        feedback=feedback,
        exposure=exposure,
        mean_depth=requests / (1 + session[starts + requests - 1]),
        mean_revisit_ms=np.nanmean(gone, axis=1),
        propensity=np.full(n, np.nan),
        depth_level=np.zeros(session.size),
        frequency_level=np.zeros(session.size),
        step=np.arange(n),
    )


def with_unexamined(data: Histories) -> Histories:
    """Return the log with a second, unexamined item on each page."""
    twice, rng = np.repeat(np.arange(len(data.row)), 2), np.random.default_rng(3)
    columns = ("timestamp", "session", "row", "state", "action", "feedback", "exposure", "propensity", "step")
    double = replace(data, starts=2 * data.starts, **{name: getattr(data, name)[twice] for name in columns})
    second = np.arange(len(twice)) % 2 == 1
    double.row[second] = rng.integers(0, len(ITEMS), second.sum())
    double.action[second] = ITEMS.embeddings[double.row[second]]
    double.feedback[second] = 0.0
    exposure = exposures(double.starts, double.row, ITEMS.kinds)
    return replace(double, exposure=exposure, examined=~second)


def inputs_of(data: Histories) -> tuple[Inputs, np.ndarray]:
    """Return the inputs of a data set with these training users, and their values."""
    inputs, _ = Inputs.from_histories(STATE, NORMALISER, ITEMS, data)
    return inputs, inputs.logged(data)
