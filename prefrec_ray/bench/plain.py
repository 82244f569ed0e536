"""The plain baseline of the bench: boosted trees on relations of a candidate to the user's past items.

No reward is learned from preferences, and there is no Q, no model of users and no search for a serving rule. Every
constant was chosen before the worlds of the bench were known to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from prefrec_ray.bench.baselines import Given, MakeServer
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.relations import Relations
from prefrec_ray.simulator.law import Choice

#: Impressions whose mean value is the target of an impression, itself the first.
HORIZON = 20
TREES, LEAVES, ROWS_OF_LEAF = 80, 31, 200
#: Random items of which one is served, by a softmax of standardised predictions.
CANDIDATES, TEMPERATURE = 120, 0.3


@dataclass(frozen=True, eq=False)
class Log:
    """Impressions by user and time: codes of users and sessions, `time_ms`, rows of the table of items, feedback."""

    users: np.ndarray
    sessions: np.ndarray
    time_ms: np.ndarray
    rows: np.ndarray
    feedback: np.ndarray  # float32 [impressions, F]


def plain(given: Given) -> MakeServer:
    """Fit the trees to the training users. Returns a maker of servers."""
    names = ["user_id", "session_index", "timestamp", "item_id", "feedback"]
    users, sessions, time_ms, ids, feedback = map(
        given.dataset.arrays("requests", "train", columns=names).__getitem__, names
    )
    items, gap = given.dataset.items(), given.dataset.state.session_gap_ms
    log = Log(np.unique(users, return_inverse=True)[1], sessions, time_ms, items.rows(ids), feedback)
    target = mean_of_next(log.feedback @ effects_on_return(log), log.users)
    known = np.isfinite(target)
    model = HistGradientBoostingRegressor(
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=ROWS_OF_LEAF,
        early_stopping=False,
        random_state=given.seed,
    ).fit(columns_of(log, items, gap)[known], target[known])
    return lambda features, rng: BestByTrees(model, items, feedback.shape[1], gap, rng)


def effects_on_return(log: Log) -> np.ndarray:
    """Return the effect of each feedback [F], its mean in a session, on minus the log of hours until the next session.

    Least squares on differences from the user's own means, so that nothing is compared between users.
    """
    begin = np.flatnonzero(_changed(log.users) | _changed(log.sessions))
    end = np.append(begin[1:], len(log.users)) - 1
    users, size = log.users[begin], (end - begin + 1)[:, None]
    mean = np.add.reduceat(log.feedback.astype(float), begin, axis=0) / size
    followed = np.flatnonzero(users[1:] == users[:-1])
    hours = (log.time_ms[begin[1:]] - log.time_ms[end[:-1]])[followed] / 3_600_000
    found, _, _, _ = np.linalg.lstsq(
        _within(mean[followed], users[followed]),
        _within(-np.log(np.maximum(hours, 1 / 60))[:, None], users[followed]),
        rcond=None,
    )
    return found[:, 0]


def mean_of_next(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Return the mean of the next `HORIZON` values of the user, from the own one on; NaN if there are fewer."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    mean = np.full(len(values), np.nan)
    first = np.arange(len(values) - HORIZON + 1)
    whole = first[users[first] == users[first + HORIZON - 1]]
    mean[whole] = (sums[whole + HORIZON] - sums[whole]) / HORIZON
    return mean


def columns_of(log: Log, items: ItemTable, session_gap_ms: int) -> np.ndarray:
    """Return the columns of each impression, float32 [impressions, columns], from the impressions before it."""
    begin = np.flatnonzero(_changed(log.users))
    length = np.diff(np.append(begin, len(log.users)))
    past = Relations(items, len(begin), log.feedback.shape[1], session_gap_ms)
    columns: list[np.ndarray] = []
    places = []
    for step in range(int(length.max())):
        at = begin + np.minimum(step, length - 1)  # users whose log has ended stand still
        left = step < length
        columns.append(_columns(past, log.time_ms[at], log.rows[at][:, None])[left, 0])
        places.append(at[left])
        past.observe(log.time_ms[at], log.rows[at], log.feedback[at])
    return np.concatenate(columns)[np.argsort(np.concatenate(places))]


class BestByTrees:
    """Serves one of `CANDIDATES` random items that are not excluded, by a softmax of the trees' predictions."""

    def __init__(
        self,
        model: HistGradientBoostingRegressor,
        items: ItemTable,
        feedback: int,
        session_gap_ms: int,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.items, self.rng = model, items, rng
        self._new = lambda users: Relations(items, users, feedback, session_gap_ms)
        self._past: Relations | None = None

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        """Return one item per user. The propensities are unknown, because the candidates are random."""
        past = self._past = self._past or self._new(len(time_ms))
        order = self.rng.random((len(time_ms), len(self.items)), dtype=np.float32)
        if excluded is not None:
            order[excluded] = 2.0
        count = min(CANDIDATES, len(self.items))
        rows = np.argpartition(order, count - 1, axis=1)[:, :count]
        columns = _columns(past, time_ms, rows)
        score = self.model.predict(columns.reshape(-1, columns.shape[2])).reshape(rows.shape)
        score = (score - score.mean(axis=1, keepdims=True)) / np.maximum(score.std(axis=1, keepdims=True), 1e-9)
        score = score / TEMPERATURE + self.rng.gumbel(size=score.shape)
        score[np.take_along_axis(order, rows, axis=1) > 1.0] = -np.inf
        return Choice(np.take_along_axis(rows, score.argmax(axis=1)[:, None], axis=1)[:, 0], np.nan)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Append the impression to each user's history."""
        assert self._past is not None  # serve comes first
        self._past.observe(time_ms, rows, feedback)


def _columns(past: Relations, time_ms: np.ndarray, rows: np.ndarray) -> np.ndarray:
    of_items, of_users = past.of_items(time_ms, rows), past.of_users(time_ms)[:, None]
    return np.concatenate([of_items, np.broadcast_to(of_users, (*rows.shape, of_users.shape[2]))], axis=2)


def _changed(codes: np.ndarray) -> np.ndarray:
    return np.append(True, codes[1:] != codes[:-1])


def _within(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Return `values` [sessions, columns], with users in blocks, minus the mean of each user."""
    begin = np.flatnonzero(_changed(users))
    size = np.diff(np.append(begin, len(users)))
    mean = np.add.reduceat(values, begin, axis=0) / size[:, None]
    return values - np.repeat(mean, size, axis=0)
