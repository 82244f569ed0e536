"""Sample of a log for the estimate of fatigue (fatigue.py): shown items and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import run_lengths, taken_runs

#: Impressions of the sampled users. More do not improve the estimate.
REQUESTS = 60_000
#: Smallest number of impressions, and smallest history of a user. In shorter histories a user's taste cannot be
#: estimated, and fatigue cannot be separated from taste for any number of users (docs/results/recipe.md).
ENOUGH, LONG = 12_000, 160
#: Largest number of impressions of one user.
MOST = 500


@dataclass(frozen=True)
class Impressions:
    """Impressions [N] of users, by user and in time order."""

    starts: np.ndarray  # int64 [U], first rows of the users
    embeddings: np.ndarray  # float32 [N, A], of the items shown
    session: np.ndarray  # int64 [N], number of the session
    timestamp: np.ndarray  # int64 [N], ms
    feedback: np.ndarray  # float32 [N, F]

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of impressions of each user, int64 [U]."""
        return run_lengths(self.starts, len(self.timestamp))

    @classmethod
    def concatenate(cls, parts: Sequence[Impressions]) -> Impressions:
        """Join samples of disjoint users."""
        before = np.cumsum([0, *(len(part.timestamp) for part in parts)])
        starts = [part.starts + rows for part, rows in zip(parts, before, strict=False)]
        columns = ("embeddings", "session", "timestamp", "feedback")
        return cls(np.concatenate(starts), *(np.concatenate([getattr(p, name) for p in parts]) for name in columns))

    def beginnings(self) -> Impressions:
        """Return the first MOST impressions of users with at least LONG impressions."""
        long = self.take(np.flatnonzero(self.lengths >= LONG))
        lengths = np.minimum(long.lengths, MOST)
        rows = np.flatnonzero(np.arange(len(long.timestamp)) - np.repeat(long.starts, long.lengths) < MOST)
        return long._rows(np.cumsum(lengths) - lengths, rows)

    def take(self, users: np.ndarray) -> Impressions:
        """Return the sample of the users in the rows `users` [m]."""
        return self._rows(*taken_runs(self.starts, len(self.timestamp), users))

    def _rows(self, starts: np.ndarray, rows: np.ndarray) -> Impressions:
        columns = (self.embeddings, self.session, self.timestamp, self.feedback)
        return Impressions(starts, *(column[rows] for column in columns))
