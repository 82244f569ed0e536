"""States of whole histories at once. Time and memory are linear in the number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.engagement import session_table, whole_dwell
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.mdp.state import (
    RequestMeans,
    SessionMeans,
    StateDefinition,
    TasteMeans,
    count_columns,
    recency_columns,
    scaled_feedback,
    session_values,
    time_columns,
)


@dataclass(frozen=True, eq=False)
class HistoryRows:
    """Whole histories of U users: N impressions by user and in time order."""

    starts: np.ndarray  # int64 [U], first rows of the users
    timestamp: np.ndarray  # int64 [N], ms, UTC
    session: np.ndarray  # int64 [N], from `engagement.sessions.session_numbers`
    feedback: np.ndarray  # float32 [N, F], as in the log, in the order of the state definition
    embeddings: np.ndarray  # float32 [N, A], of the items
    profile: np.ndarray  # float32 [U, P], from `StateDefinition.one_hot`
    dwell_ms: np.ndarray | None = None  # float64 [N], NaN if unknown
    step: np.ndarray | None = None  # int64 [N], number of the page in the user's history; None: one impression each

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of impressions of each user, int64 [U]."""
        return run_lengths(self.starts, len(self.timestamp))


def raw_states(definition: StateDefinition, rows: HistoryRows) -> np.ndarray:
    """Return the unscaled state vector before each impression, float32 [N, width], equal for those of a page."""
    n, groups = len(rows.timestamp), definition.groups
    states = np.empty((n, definition.width), dtype=np.float32)
    user = np.repeat(np.arange(len(rows.starts)), rows.lengths)
    states[:, groups["profile"]] = rows.profile[user]

    recent = RequestMeans(definition)
    feedback = scaled_feedback(rows.feedback, definition)
    values = np.concatenate([feedback, rows.embeddings], axis=1)
    running_means(values, rows.starts, recent.decay, recent.source, out=states[:, recent.columns])

    tastes = TasteMeans(definition)
    values = tastes.answers(feedback, rows.embeddings, states[:, recent.columns])
    running_means(values, rows.starts, tastes.decay, tastes.source, out=states[:, tastes.columns])

    pages = Pages.from_steps(rows.starts, rows.step, n)
    at, begin = pages.first, pages.of_user[user[pages.first]]
    timestamp, number = rows.timestamp[at], rows.session[at]
    dwell_ms = None if rows.dwell_ms is None else pages.sums(whole_dwell(rows.dwell_ms))
    sessions = session_table(user[at], timestamp, number, dwell_ms)
    past = SessionMeans(definition)
    values = session_values(sessions.depth, sessions.revisit_ms)
    of_sessions = np.empty((len(sessions), len(past.decay)), dtype=np.float32)
    running_means(values, first_rows(sessions.user), past.decay, past.source, out=of_sessions)
    session = np.repeat(np.arange(len(sessions)), sessions.depth)  # the entry of each page's session
    states[at, past.columns] = of_sessions[session]

    page = np.arange(len(at))
    since_exit = np.where(number > 0, timestamp - sessions.exit[session - 1], 0)
    since_page = np.where(page > begin, np.diff(timestamp, prepend=0), 0)
    states[at, groups["time"]] = time_columns(timestamp)
    states[at, groups["recency"]] = recency_columns(since_exit, since_page, page - sessions.first_row[session])
    states[at, groups["counts"]] = count_columns(page - begin, number, timestamp - timestamp[begin])
    return states if len(at) == n else states[at[pages.of_row]]


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
