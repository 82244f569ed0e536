"""States and transitions of whole histories at once. Time and memory are linear in the number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.engagement import session_table
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.mdp.columns import (
    RequestMeans,
    SessionMeans,
    TasteMeans,
    count_columns,
    recency_columns,
    scaled_feedback,
    session_values,
    time_columns,
)
from prefrec_ray.mdp.state import StateDefinition


@dataclass(frozen=True, eq=False)
class HistoryRows:
    """Whole histories of U users: N impressions sorted by (user, timestamp, order)."""

    starts: np.ndarray  # int64 [U], first rows of the users
    timestamp: np.ndarray  # int64 [N], ms, UTC
    session: np.ndarray  # int64 [N], from `engagement.sessions.session_numbers`
    feedback: np.ndarray  # float32 [N, F], as in the log, in the order of the state definition
    embeddings: np.ndarray  # float32 [N, A], of the items
    profile: np.ndarray  # float32 [U, P], from `StateDefinition.one_hot`
    dwell_ms: np.ndarray | None = None  # float64 [N], NaN if unknown

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of impressions of each user, int64 [U]."""
        return run_lengths(self.starts, len(self.timestamp))


def raw_states(definition: StateDefinition, rows: HistoryRows) -> np.ndarray:
    """Return the state vector before each impression, float32 [N, width], not yet scaled.

    It uses the impression's timestamp and the flag that it opens a session, and everything about earlier impressions.
    """
    n, groups = len(rows.timestamp), definition.groups
    states = np.empty((n, definition.width), dtype=np.float32)
    user = np.repeat(np.arange(len(rows.starts)), rows.lengths)
    first = rows.starts[user]
    states[:, groups["profile"]] = rows.profile[user]

    recent = RequestMeans(definition)
    feedback = scaled_feedback(rows.feedback, definition)
    values = np.concatenate([feedback, rows.embeddings], axis=1)
    running_means(values, rows.starts, recent.decay, recent.source, out=states[:, recent.columns])

    tastes = TasteMeans(definition)
    values = tastes.answers(feedback, rows.embeddings, states[:, recent.columns])
    running_means(values, rows.starts, tastes.decay, tastes.source, out=states[:, tastes.columns])

    sessions = session_table(user, rows.timestamp, rows.session, rows.dwell_ms)
    past = SessionMeans(definition)
    values = session_values(sessions.depth, sessions.revisit_ms)
    of_sessions = np.empty((len(sessions), len(past.decay)), dtype=np.float32)
    running_means(values, first_rows(sessions.user), past.decay, past.source, out=of_sessions)
    session = np.repeat(np.arange(len(sessions)), sessions.depth)  # the entry of each impression's session
    states[:, past.columns] = of_sessions[session]

    since_exit = np.where(rows.session > 0, rows.timestamp - sessions.exit[session - 1], 0)
    row = np.arange(n)
    since_request = np.where(row > first, np.diff(rows.timestamp, prepend=0), 0)
    states[:, groups["time"]] = time_columns(rows.timestamp)
    states[:, groups["recency"]] = recency_columns(since_exit, since_request, row - sessions.first_row[session])
    states[:, groups["counts"]] = count_columns(row - first, rows.session, rows.timestamp - rows.timestamp[first])
    return states


def running_means(
    values: np.ndarray, starts: np.ndarray, decay: np.ndarray, source: np.ndarray, out: np.ndarray
) -> None:
    """Write to `out` [N, K] the means of `values` [N, C] over each user's earlier rows; 0 at a user's first row.

    Column k is sum_j decay[k]^j values[i - 1 - j, source[k]] / sum_j decay[k]^j. All users advance in step, the longest
    histories first, so that the users with further rows are always a prefix: a step takes a few array operations.
    """
    lengths = run_lengths(starts, len(values))
    order = np.argsort(-lengths, kind="stable")
    first = starts[order]
    steps = int(lengths.max(initial=0))
    going_on = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(steps), side="right")
    sums = np.zeros((len(lengths), len(decay)))
    weight = np.zeros(len(decay))
    for step in range(steps):
        active = sums[: going_on[step]]
        row = first[: going_on[step]] + step
        out[row] = active / np.maximum(weight, 1.0)
        active *= decay
        active += values[row].take(source, axis=1)
        weight = weight * decay + 1.0


def transition_rows(user_starts: np.ndarray, n: int) -> np.ndarray:
    """Return rows i (int64, ascending) such that i and i + 1 are impressions of one user, also across sessions.

    `user_starts` are the first rows of the users among `n` rows sorted by (user, timestamp).
    """
    followed = np.ones(n, dtype=bool)
    followed[np.asarray(user_starts, dtype=np.int64)[1:] - 1] = False
    followed[n - 1 :] = False
    return np.flatnonzero(followed)
