"""Definition of the state vector and formulas of its columns, for states in bulk (bulk.py) and of live users
(tracker.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Annotated, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat

from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings

#: A table with one row per user, arrays by column name, or the number of users if they have no features.
UserFeatures: TypeAlias = pa.Table | Mapping[str, np.ndarray] | int
_TIME = ("day_sin", "day_cos", "half_day_sin", "half_day_cos", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RECENCY = ("since_exit", "since_request", "position", "new_session")
_COUNTS = ("requests", "sessions", "days")
_SESSION_VALUES = ("depth", "revisit")
DAY_MS = 86_400_000
#: Default length of an item embedding that the log lacks.
LEARNED_DIM = 8
#: Upper limit of a ratio such as the watched share of a video. Repeats are rare and can make it huge.
RATIO_CAP = 5.0
#: Preferred half-life, in impressions, of the mean with which `tastes` compares an impression.
RECENT = 5.0
_MONDAY = 3  # 1970-01-01 was a Thursday: the fourth day of its week


class StateDefinition(Settings):
    """Columns of a state vector. Columns of running means are ordered by half-life.

    `user_features` contains the categories of each feature in column order; `unknown` is added to each.
    `feedback_kinds` contains the kind of each feedback column (default `number`), which sets its scale.
    Half-lives are in impressions, session half-lives in sessions; 0 is the last value. With `pages`, all items of a
    page have the state before the page, and counts, positions and depths are in pages. Without, each impression is a
    page.
    """

    feedback: tuple[str, ...]
    user_features: Mapping[str, tuple[str, ...]]
    action_dim: Annotated[int, Field(ge=1, strict=True)] = LEARNED_DIM
    session_gap_ms: Annotated[int, Field(ge=1, strict=True)] = 30 * 60 * 1000
    feedback_half_lives: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.0, 5.0, 20.0, 100.0, 500.0)
    item_half_lives: tuple[NonNegativeFloat, ...] = (0.0, 2.0, 8.0, 32.0, 128.0)
    taste_half_lives: tuple[NonNegativeFloat, ...] = (128.0,)
    session_half_lives: tuple[NonNegativeFloat, ...] = (0.0, 2.0, 8.0, 32.0)
    feedback_kinds: Mapping[str, str] = {}
    pages: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return one name per column, `group/column`."""
        return tuple(f"{group}/{name}" for group, names in self._columns.items() for name in names)

    @cached_property
    def groups(self) -> dict[str, slice]:
        """Return the column range of each group."""
        ends = list(accumulate(len(names) for names in self._columns.values()))
        return {group: slice(a, b) for group, a, b in zip(self._columns, [0, *ends], ends, strict=False)}

    @cached_property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.names)

    def embedding_parts(self, groups: Sequence[str] = ("items", "tastes")) -> tuple[tuple[int, ...], ...]:
        """Return the columns of the parts of `groups` that depend on embeddings, each as long as an embedding."""
        columns = [self.groups[name] for name in groups]
        starts = [start for part in columns for start in range(part.start, part.stop, self.action_dim)]
        return tuple(tuple(range(start, start + self.action_dim)) for start in starts)

    def one_hot(self, features: UserFeatures) -> np.ndarray:
        """Return the `profile` columns of n users, float32 [n, P]. A null and an unlisted value are unknown.

        Raises `UserError` for a missing column, and for a mapping without columns, as n is then unknown.
        """
        if isinstance(features, int):  # servers add users one by one
            profile = np.zeros((features, self.groups["profile"].stop), dtype=np.float32)
            ends = list(accumulate(len(categories) + 1 for categories in self.user_features.values()))
            profile[:, np.array(ends, np.int64) - 1] = 1.0
            return profile
        table = features if isinstance(features, pa.Table) else pa.table(dict(features))
        columns, n = _text_columns(table, self.user_features), len(table)
        profile = np.zeros((n, self.groups["profile"].stop), dtype=np.float32)
        offset = 0
        for name, categories in self.user_features.items():
            code = pc.fill_null(pc.index_in(columns[name], pa.array(categories, pa.string())), len(categories))
            profile[np.arange(n), offset + code.to_numpy(zero_copy_only=False)] = 1.0
            offset += len(categories) + 1
        return profile

    @cached_property
    def _columns(self) -> dict[str, list[str]]:
        profile = [f"{name}={c}" for name, known in self.user_features.items() for c in (*known, "(unknown)")]
        axes = range(self.action_dim)
        return {
            "profile": profile,
            "feedback": [f"{name}@{h:g}" for h in self.feedback_half_lives for name in self.feedback],
            "items": [f"{k}@{h:g}" for h in self.item_half_lives for k in axes],
            "tastes": [f"{name}*{k}@{h:g}" for h in self.taste_half_lives for name in self.feedback for k in axes],
            "sessions": [f"{name}@{h:g}" for h in self.session_half_lives for name in _SESSION_VALUES],
            "time": list(_TIME),
            "recency": list(_RECENCY),
            "counts": list(_COUNTS),
        }


def _text_columns(features: pa.Table, needed: Iterable[str]) -> dict[str, pa.ChunkedArray]:
    """Return the needed columns as strings."""
    names = features.column_names
    for name in needed:
        if name not in names:
            raise UserError(f"user features: column '{name}' is missing; found {', '.join(names) or 'none'}")
    if not names:
        raise UserError("user features: found no columns; expected one (such as user_id) or the number of users")
    return {name: features[name].cast(pa.string()) for name in needed}


def decays(half_lives: tuple[float, ...], columns: int) -> np.ndarray:
    """Return d = 0.5^(1 / half-life), `columns` times for each half-life in turn; 0 for a half-life of 0."""
    return np.repeat([0.5 ** (1.0 / h) if h > 0 else 0.0 for h in half_lives], columns)


def closest(half_lives: tuple[float, ...], wanted: float) -> int:
    """Return the position of the half-life whose ratio to the wanted one is nearest to 1."""
    return int(np.abs(np.log(np.maximum(half_lives, 1e-3)) - np.log(wanted)).argmin())


class RequestMeans:
    """Layout of the means over impressions: `decay` float64 [K], `source` int64 [K] (in feedback, then embedding)."""

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
    """Return feedback [n, F] on the scale of the state: log1p of counts and seconds, ratios of at most `RATIO_CAP`."""
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
