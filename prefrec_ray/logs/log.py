"""The one form that every log is brought into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Labels:
    """What some items are about, and who made them."""

    tags: sparse.csr_array  # [I, T], 1 where an item has a tag
    maker: np.ndarray  # int64 [I], -1 where unknown


@dataclass(frozen=True, eq=False)
class Log:
    """Interactions, and what is known of users and items; interactions stay in Ray Data, the two tables do not."""

    # user_id, item_id (int64 or string), timestamp (int64, ms UTC), order (int64: position in the log, breaks ties of
    # time)[, session_id (int64 or string)][, dwell_ms (float64, NaN where unknown)][, reward (float32)][, row_hash
    # (int64, equal where rows are equal in every column as given: all but the first of such rows are dropped)], and a
    # float32 column a feedback
    interactions: ray.data.Dataset
    rows: int  # how many interactions there are; of a CSV file a guess by its size
    feedback: tuple[str, ...]  # names of the feedback columns, in the order of the state
    feedback_kinds: Mapping[str, str] = field(default_factory=dict)  # what they mean (mdp.state); unsaid: "number"
    users: pa.Table | None = None  # user_id + one string column a feature (null: unknown)
    categories: Mapping[str, tuple[str, ...]] | None = None  # all that a feature can be; None: what the users show
    items: pa.Table | None = None  # item_id, embedding (fixed_size_list<float32>), in [-1, 1]
    labels: Callable[[np.ndarray], Labels] | None = None  # of ascending item ids; without `items` they help to embed
    files: tuple[str, ...] = ()  # whose rows `order` numbers (logs.contract): errors name them
    unique_rows: bool = False  # whether rows that are equal in all columns but `order` break the contract
    one_request_a_moment: bool = False  # whether the rows of one user and time are one request
    given_sessions: bool = False  # whether session_id rules, instead of the gap
    has_reward: bool = False  # whether there is a hand-made reward, kept out of the state
    world: dict[str, Any] | None = None  # the simulator's settings, for roll-outs
