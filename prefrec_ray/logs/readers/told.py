"""Counts of impressions, and user features, in event logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs.events.format import Kind


def requests(table: pa.Table) -> np.ndarray:
    """Return a mask of the rows that are impressions, bool [N]."""
    return pc.and_(pc.equal(table["kind"], int(Kind.FEEDBACK)), pc.fill_null(table["known"], False)).to_numpy()


class Told:
    """Counts impressions, and keeps the newest features of each user.

    Within a log the last row counts. For a user in several logs, the row that a server received last counts.
    """

    def __init__(self, features: Mapping[str, tuple[str, ...]]) -> None:
        self._features = features
        self._known: dict[Any, tuple[int, str]] = {}  # user -> time of receipt, JSON
        self._of_log: dict[Any, tuple[int, str]] = {}
        self.requests = 0
        self.column = "user_number"
        self.kinds: set[str] = set()  # of the ids of users
        #: Columns that `add` needs.
        self.columns = ["kind", "known", "user", *(("user_number", "note", "received") if features else ())]

    def add(self, table: pa.Table) -> None:
        """Add the next rows of a log."""
        wanted, text = requests(table), pc.is_valid(table["user"]).to_numpy()
        self.requests += int(wanted.sum())
        self.kinds |= ({"text"} if text.any() else set()) | ({"whole numbers"} if (wanted & ~text).any() else set())
        if text.any():
            self.column = "user"
        if self._features:
            rows = table.filter(pc.and_(pc.equal(table["kind"], int(Kind.RECOMMENDED)), pc.is_valid(table["note"])))
            notes = zip(rows["received"].to_pylist(), rows["note"].to_pylist(), strict=True)
            self._of_log.update(zip(rows[self.column].to_pylist(), notes, strict=True))

    def end(self) -> None:
        """End a log; another one may follow."""
        for user, (received, note) in self._of_log.items():
            if user not in self._known or self._known[user][0] <= received:
                self._known[user] = received, note
        self._of_log = {}

    def table(self) -> pa.Table:
        """Return user_id and the features as text (null: unknown)."""
        features = [json.loads(note) for _, note in self._known.values()]
        ids = pa.array(list(self._known), pa.string() if self.column == "user" else pa.int64())
        of_users = {name: pa.array([one.get(name) for one in features], pa.string()) for name in self._features}
        return pa.table({"user_id": ids, **of_users})
