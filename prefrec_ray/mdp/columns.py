"""Formulas of the state's columns, for both implementations: in bulk (bulk.py) and step by step (tracker.py)."""

from __future__ import annotations

import numpy as np

from prefrec_ray.mdp.state import StateDefinition

DAY_MS = 86_400_000
#: Upper limit of a ratio such as the watched share of a video. Repeats are rare and can make it huge.
RATIO_CAP = 5.0
#: Preferred half-life, in impressions, of the mean with which `tastes` compares an impression.
RECENT = 5.0
_MONDAY = 3  # 1970-01-01 was a Thursday: the fourth day of its week


def decays(half_lives: tuple[float, ...], columns: int) -> np.ndarray:
    """Return d = 0.5^(1 / half-life), `columns` times for each half-life in turn; 0 for a half-life of 0."""
    return np.repeat([0.5 ** (1.0 / h) if h > 0 else 0.0 for h in half_lives], columns)


def closest(half_lives: tuple[float, ...], wanted: float) -> int:
    """Return the position of the half-life whose ratio to the wanted one is nearest to 1."""
    return int(np.abs(np.log(np.maximum(half_lives, 1e-3)) - np.log(wanted)).argmin())


class RequestMeans:
    """Layout of the running means over impressions: the adjacent groups `feedback` and `items`.

    `decay` float64 [K] by column; `source` int64 [K]: its column in the values of an impression, feedback then
    embedding.
    """

    def __init__(self, definition: StateDefinition) -> None:
        feedback, dim = len(definition.feedback), definition.action_dim
        rates, tastes = definition.feedback_half_lives, definition.item_half_lives
        self.decay = np.concatenate([decays(rates, feedback), decays(tastes, dim)])
        self.source = np.concatenate(
            [np.tile(np.arange(feedback), len(rates)), feedback + np.tile(np.arange(dim), len(tastes))]
        )
        self.columns = slice(definition.groups["feedback"].start, definition.groups["items"].stop)


class TasteMeans:
    """Running means of `answers` (state group `tastes`), ordered by half-life.

    The baseline of an impression is one of the columns of `RequestMeans`: the mean of the user's last few impressions.
    """

    def __init__(self, definition: StateDefinition) -> None:
        feedback, half_lives = len(definition.feedback), definition.taste_half_lives
        columns = feedback * definition.action_dim
        self.decay = decays(half_lives, columns)
        self.source = np.tile(np.arange(columns), len(half_lives))
        self.columns = definition.groups["tastes"]
        rates, shown = definition.feedback_half_lives, definition.item_half_lives
        self._rates = _columns_of(closest(rates, RECENT), feedback)
        self._shown = None
        if shown:
            self._shown = _columns_of(closest(shown, RECENT), definition.action_dim, start=feedback * len(rates))

    def answers(self, feedback: np.ndarray, embeddings: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Return the products of feedback and embedding, each minus its baseline, float32 [n, F * A].

        The arguments are scaled feedback [n, F], embeddings [n, A] and the columns of `RequestMeans` before these
        impressions, float32 [n, K]. The running mean of the products is a covariance over few impressions. Between
        consecutive impressions only the item changes; over hundreds the user's satisfaction changes too
        (docs/recipe.md).
        """
        surprise = feedback - means[:, self._rates]
        shown = embeddings if self._shown is None else embeddings - means[:, self._shown]
        columns = surprise.shape[1] * shown.shape[1]
        return (surprise[:, :, None] * shown[:, None, :]).reshape(len(feedback), columns)


class SessionMeans:
    """Layout of the running means of `session_values` over past sessions (group `sessions`)."""

    def __init__(self, definition: StateDefinition) -> None:
        half_lives = definition.session_half_lives
        self.decay = decays(half_lives, 2)
        self.source = np.tile(np.arange(2), len(half_lives))
        self.columns = definition.groups["sessions"]


def _columns_of(number: int, width: int, start: int = 0) -> slice:
    return slice(start + number * width, start + (number + 1) * width)


def scaled_feedback(values: np.ndarray, definition: StateDefinition) -> np.ndarray:
    """Return feedback [n, F] on the scale of the state.

    Counts and seconds become log1p, ratios are at most `RATIO_CAP`, other kinds stay unchanged. Returns a new array if
    any value changes.
    """
    kinds = [definition.feedback_kinds.get(name, "number") for name in definition.feedback]
    if not {"count", "seconds", "ratio"} & set(kinds):
        return values
    values = values.copy()
    for column, kind in enumerate(kinds):
        if kind in ("count", "seconds"):
            values[:, column] = np.log1p(values[:, column])
        elif kind == "ratio":
            values[:, column] = np.minimum(values[:, column], RATIO_CAP)
    return values


def session_values(depth: np.ndarray, revisit_ms: np.ndarray) -> np.ndarray:
    """Return log1p(depth) and log1p(revisit in seconds), float64 [M, 2]."""
    return np.log1p(np.stack([depth, revisit_ms / 1000.0], axis=1))


def time_columns(timestamp: np.ndarray) -> np.ndarray:
    """Return the group `time`, float32 [n, 11], of timestamps in ms, UTC."""
    days, within = np.divmod(timestamp, DAY_MS)
    angle = within * (2.0 * np.pi / DAY_MS)
    columns = np.zeros((len(timestamp), 11), dtype=np.float32)
    columns[:, 0], columns[:, 1] = np.sin(angle), np.cos(angle)
    columns[:, 2], columns[:, 3] = np.sin(2.0 * angle), np.cos(2.0 * angle)
    columns[np.arange(len(timestamp)), 4 + (days + _MONDAY) % 7] = 1.0
    return columns


def recency_columns(since_exit_ms: np.ndarray, since_request_ms: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return the group `recency`, float32 [n, 4].

    `since_exit_ms` is the time since the end of the previous session, `since_request_ms` the time since the last
    impression. Both are 0 if absent, and negative values count as 0. `position` is the position in the session, from 0.
    """
    columns = np.empty((len(position), 4), dtype=np.float32)
    columns[:, 0] = np.log1p(np.maximum(since_exit_ms, 0) / 1000.0)
    columns[:, 1] = np.log1p(np.maximum(since_request_ms, 0) / 1000.0)
    columns[:, 2] = np.log1p(position)
    columns[:, 3] = position == 0
    return columns


def count_columns(requests: np.ndarray, sessions: np.ndarray, since_first_ms: np.ndarray) -> np.ndarray:
    """Return the group `counts`, float32 [n, 3]: earlier impressions and sessions, and time since the first."""
    columns = np.empty((len(requests), 3), dtype=np.float32)
    columns[:, 0] = np.log1p(requests)
    columns[:, 1] = np.log1p(sessions)
    columns[:, 2] = np.log1p(np.maximum(since_first_ms, 0) / DAY_MS)
    return columns
