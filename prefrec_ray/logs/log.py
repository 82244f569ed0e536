"""Canonical form of every log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy import sparse

if TYPE_CHECKING:
    import ray.data


@dataclass(frozen=True, eq=False)
class Content:
    """Content of I items: their tags and makers."""

    tags: sparse.csr_array  # [I, T], 1 for each tag of an item
    feature: np.ndarray  # int64 [T], number of each tag's feature, from 0
    maker: np.ndarray  # int64 [I], -1 if unknown

    @classmethod
    def from_pairs(cls, item: np.ndarray, tag: np.ndarray, maker: np.ndarray) -> Content:
        """Return the content of items from pairs [n] of an item's row (int64, -1: another item) and one of its tags.

        Tags FEATURE=CATEGORY belong to several features, all others to one.
        """
        names, column = np.unique(tag, return_inverse=True)
        known = item >= 0
        ones = np.ones(int(known.sum()), np.float32)
        matrix = sparse.csr_array((ones, (item[known], column[known])), shape=(len(maker), len(names)))
        matrix.data[:] = 1.0  # a repeated tag counts once
        features = [str(name).split("=", 1)[0] if "=" in str(name) else "" for name in names]
        return cls(matrix, np.unique(features, return_inverse=True)[1], maker)


@dataclass(frozen=True, eq=False)
class Log:
    """Interactions, users and items. Interactions stay in Ray Data; the tables of users and items are in memory."""

    # user_id, item_id (int64 or string), timestamp (int64, ms UTC), order (int64: position in the log, breaks ties of
    # time)[, session_id (int64 or string)][, dwell_ms (float64, NaN if unknown)][, reward (float32)][, propensity
    # (float32, null if unknown)][, row_hash (int64, equal for rows that are equal in every column of the file; only the
    # first of such rows is kept)], and one float32 column per feedback
    interactions: ray.data.Dataset
    rows: int  # number of interactions; for CSV files an estimate from their size
    feedback: tuple[str, ...]  # names of the feedback columns, in the order of the state
    feedback_kinds: Mapping[str, str] = field(default_factory=dict)  # their kinds (mdp.state); default "number"
    users: pa.Table | None = None  # user_id and one string column per feature (null: unknown)
    categories: Mapping[str, tuple[str, ...]] | None = None  # all values of a feature; None: the values that occur
    items: pa.Table | None = None  # item_id, embedding (fixed_size_list<float32>), in [-1, 1]
    # By ascending item ids; for kinds of items, and for embeddings if `items` is None.
    content: Callable[[np.ndarray], Content] | None = None
    about: pa.Table | None = None  # table of items without embeddings: item_id[, title][, image], as text
    files: tuple[str, ...] = ()  # the files whose rows `order` numbers (logs.contract), for errors
    unique_rows: bool = False  # True if equal rows (except for `order`) break the contract
    given_sessions: bool = False  # session_id defines sessions, not the session timeout
    has_reward: bool = False  # the log has a reward column, which is not part of the state
    has_propensity: bool = False  # the log has the logging policy's propensity of the item
    world: dict[str, Any] | None = None  # the simulator's settings, for roll-outs
