"""What users were shown and what came of it: the sample of a log that is asked whether people tire (tiring.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import run_lengths, taken_runs

#: Requests of the users that are asked; more make the answer no better.
REQUESTS = 60_000
#: Fewer cannot say. From shorter histories no taste of a user's own can be told, and without it people who tire look
#: like people who do not, whatever the number of users (docs/results/recipe.md).
ENOUGH, LONG = 12_000, 160
#: Requests of one user.
MOST = 500


@dataclass(frozen=True)
class Shown:
    """Requests [N] of users, by user and in time order."""

    starts: np.ndarray  # int64 [U], first rows of the users
    embeddings: np.ndarray  # float32 [N, A], of the items shown
    session: np.ndarray  # int64 [N], number of the session
    timestamp: np.ndarray  # int64 [N], ms
    feedback: np.ndarray  # float32 [N, F]

    @property
    def lengths(self) -> np.ndarray:
        """Requests of each user, int64 [U]."""
        return run_lengths(self.starts, len(self.timestamp))

    @classmethod
    def concatenate(cls, parts: Sequence[Shown]) -> Shown:
        """Those of disjoint users."""
        before = np.cumsum([0, *(len(part.timestamp) for part in parts)])
        starts = [part.starts + rows for part, rows in zip(parts, before, strict=False)]
        columns = ("embeddings", "session", "timestamp", "feedback")
        return cls(np.concatenate(starts), *(np.concatenate([getattr(p, name) for p in parts]) for name in columns))

    def beginnings(self) -> Shown:
        """Of users with at least LONG requests the first MOST."""
        long = self.take(np.flatnonzero(self.lengths >= LONG))
        lengths = np.minimum(long.lengths, MOST)
        rows = np.flatnonzero(np.arange(len(long.timestamp)) - np.repeat(long.starts, long.lengths) < MOST)
        return long._rows(np.cumsum(lengths) - lengths, rows)

    def take(self, users: np.ndarray) -> Shown:
        """Those of the users in the rows `users` [m]."""
        return self._rows(*taken_runs(self.starts, len(self.timestamp), users))

    def _rows(self, starts: np.ndarray, rows: np.ndarray) -> Shown:
        columns = (self.embeddings, self.session, self.timestamp, self.feedback)
        return Shown(starts, *(column[rows] for column in columns))
