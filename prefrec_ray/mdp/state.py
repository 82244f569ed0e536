"""Definition of the state vector: names and positions of its columns. columns.py computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse

#: A table with one row per user, arrays by column name, or the number of users if they have no features.
UserFeatures: TypeAlias = pa.Table | Mapping[str, np.ndarray] | int

_TIME = ("day_sin", "day_cos", "half_day_sin", "half_day_cos", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RECENCY = ("since_exit", "since_request", "position", "new_session")
_COUNTS = ("requests", "sessions", "days")
_SESSION_VALUES = ("depth", "revisit")


@dataclass(frozen=True)
class StateDefinition:
    """Columns of a state vector. Columns of running means are ordered by half-life.

    `user_features` contains the categories of each feature in column order; `unknown` is added to each.
    `feedback_kinds` contains the kind of each feedback column (default `number`), which sets its scale (columns.py).
    Half-lives are in impressions, session half-lives in sessions; 0 is the last value. With `pages`, all items of a
    page have the state before the page, and counts, positions and depths are in pages. Without, each impression is a
    page.
    """

    feedback: tuple[str, ...]
    user_features: Mapping[str, tuple[str, ...]]
    action_dim: int = 8
    session_gap_ms: int = 30 * 60 * 1000
    feedback_half_lives: tuple[float, ...] = (0, 5, 20, 100, 500)
    item_half_lives: tuple[float, ...] = (0, 2, 8, 32, 128)
    taste_half_lives: tuple[float, ...] = (128,)
    session_half_lives: tuple[float, ...] = (0, 2, 8, 32)
    feedback_kinds: Mapping[str, str] = field(default_factory=dict)
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
        if isinstance(features, int):
            columns, n = {name: pa.nulls(features, pa.string()) for name in self.user_features}, features
        else:
            columns, n = _text_columns(features, self.user_features)
        profile = np.zeros((n, self.groups["profile"].stop), dtype=np.float32)
        offset = 0
        for name, categories in self.user_features.items():
            code = pc.fill_null(pc.index_in(columns[name], pa.array(categories, pa.string())), len(categories))
            profile[np.arange(n), offset + code.to_numpy(zero_copy_only=False)] = 1.0
            offset += len(categories) + 1
        return profile

    def features_of(self, profile: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features in `profile` columns [n, P]: strings by feature, object [n], None if unknown."""
        features, offset = {}, 0
        for name, categories in self.user_features.items():
            code = profile[:, offset : offset + len(categories) + 1].argmax(axis=1)
            features[name] = np.array([*categories, None], dtype=object)[code]
            offset += len(categories) + 1
        return features

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers for JSON."""
        return {
            "feedback": list(self.feedback),
            "user_features": {name: list(categories) for name, categories in self.user_features.items()},
            "action_dim": self.action_dim,
            "session_gap_ms": self.session_gap_ms,
            "feedback_half_lives": list(self.feedback_half_lives),
            "item_half_lives": list(self.item_half_lives),
            "taste_half_lives": list(self.taste_half_lives),
            "session_half_lives": list(self.session_half_lives),
            "feedback_kinds": dict(self.feedback_kinds),
            **({"pages": True} if self.pages else {}),  # files of logs without pages are as in earlier versions
        }

    @classmethod
    def from_dict(cls, value: Any, where: str) -> StateDefinition:
        """Return the definition of a `to_dict`. Raises `UserError`, which begins with `where`, for anything else."""
        written = parse(_StateSchema, value, where, "state.")
        return cls(
            feedback=tuple(written.feedback),
            user_features={name: tuple(categories) for name, categories in written.user_features.items()},
            action_dim=written.action_dim,
            session_gap_ms=written.session_gap_ms,
            feedback_half_lives=tuple(written.feedback_half_lives),
            item_half_lives=tuple(written.item_half_lives),
            taste_half_lives=tuple(written.taste_half_lives),
            session_half_lives=tuple(written.session_half_lives),
            feedback_kinds=written.feedback_kinds,
            pages=written.pages,
        )

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


class _StateSchema(Settings):
    """Schema of the result of `to_dict`."""

    model_config = ConfigDict(strict=True)

    feedback: list[str]
    user_features: dict[str, list[str]]
    action_dim: PositiveInt
    session_gap_ms: NonNegativeInt
    feedback_half_lives: Annotated[list[NonNegativeFloat], Field(min_length=1)]
    item_half_lives: list[NonNegativeFloat]
    taste_half_lives: list[NonNegativeFloat]
    session_half_lives: list[NonNegativeFloat]
    feedback_kinds: dict[str, str]
    pages: bool = False


def _text_columns(features: pa.Table | Mapping[str, Any], needed: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the needed columns as strings, and the number of users."""
    if isinstance(features, pa.Table):
        features = {name: features[name] for name in features.column_names}
    names = list(features)
    for name in needed:
        if name not in names:
            raise UserError(f"user features: column '{name}' is missing; found {', '.join(names) or 'none'}")
    if not names:
        raise UserError("user features: found no columns; expected one (such as user_id) or the number of users")
    arrays = {
        name: v if isinstance(v, pa.Array | pa.ChunkedArray) else pa.array(v, from_pandas=True)
        for name, v in features.items()
    }
    return {name: arrays[name].cast(pa.string()) for name in needed}, len(arrays[names[0]])
