"""Diagnosis of the teachers of a data set: how well simple rules predict their labels without actions.

If the number of sessions in a segment, or only the user, already predicts the preferred segment, a high accuracy of a
reward model is not evidence that it learned about actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.preferences import Sessions, find_scoring, scoring_of

#: Segments of each user, evenly spread over the history, for the variance between users.
_SEGMENTS = 16


@dataclass(frozen=True)
class Diagnosis:
    """One teacher on one task. Accuracies are over pairs without ties, and None without such pairs."""

    task: str
    teacher: str
    ties: float  # share of pairs
    between_users: float  # share of the variance of segment scores between users
    sessions: float | None  # accuracy of the rule that counts the sessions that end in a segment ...
    prefers_more: bool  # ... and prefers more of them if True, else fewer
    user: float | None  # accuracy of the rule "the user whose segments score higher on average"; None within users


def diagnose(dataset: PreparedDataset) -> list[Diagnosis]:
    """Diagnose the teachers of the validation pairs of a data set, on every task."""
    columns = ["user_id", "depth", "level_depth", "level_frequency", "split"]
    tables = [dataset.read(file, columns) for file in dataset.files("sessions")]
    table = pa.concat_tables([one.filter(pc.equal(one["split"], "validation")) for one in tables])
    ids = table["user_id"].combine_chunks().unique()
    diagnoses = []
    for task in dataset.metadata.tasks:
        sessions = Sessions.from_table(table, task, dataset.metadata.mixture_weight)
        pairs = dataset.read(dataset.path("preferences", task, "validation.parquet"))
        for teacher in pairs["teacher"].unique().to_pylist():
            diagnoses.append(
                _diagnosis(task, teacher, sessions, pairs.filter(pc.equal(pairs["teacher"], teacher)), ids)
            )
    return diagnoses


def _diagnosis(task: str, teacher: str, sessions: Sessions, pairs: pa.Table, ids: pa.Array) -> Diagnosis:
    user = np.stack([pc.index_in(pairs[f"user_{side}"], ids).to_numpy() for side in (0, 1)], axis=1).astype(np.int64)
    start = np.stack([pairs[f"start_{side}"].to_numpy() for side in (0, 1)], axis=1)
    length, labels = pairs["length"][0].as_py(), pairs["label"].to_numpy()
    first, end = sessions.ending_in(user.ravel(), start.ravel(), length)
    more = rule_accuracy(labels, *(end - first).reshape(-1, 2).T)

    known = np.unique(user)  # the users of the pairs have more steps than a segment
    steps = sessions.last_step[np.append(sessions.starts[1:], len(sessions.last_step)) - 1] + 1
    starts = np.linspace(0, steps[known] - length - 1, _SEGMENTS, axis=1).astype(np.int64)
    score = find_scoring(scoring_of(teacher))
    scores = score(sessions, np.repeat(known, _SEGMENTS), starts.ravel(), length).reshape(-1, _SEGMENTS)
    of_pairs = scores.mean(axis=1)[np.searchsorted(known, user)]
    return Diagnosis(
        task=task,
        teacher=teacher,
        ties=float(np.mean(labels == 0.5)),
        between_users=between_share(scores),
        sessions=None if more is None else max(more, 1 - more),
        prefers_more=more is None or more >= 0.5,
        user=None if teacher.startswith("within_user") else rule_accuracy(labels, *of_pairs.T),
    )


def between_share(scores: np.ndarray) -> float:
    """Return the share of the variance between rows of `scores` float64 [U, K]: U users, K segments of each.

    The intraclass correlation ICC(1) of one-way random effects (Shrout and Fleiss 1979), 0 if nothing varies.
    """
    if len(scores) < 2:
        return 0.0
    within = scores.var(axis=1, ddof=1).mean()
    between = max(0.0, scores.mean(axis=1).var(ddof=1) - within / scores.shape[1])
    return float(between / (between + within)) if between + within > 0 else 0.0


def rule_accuracy(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how often the larger of `first` and `second` [P] is preferred; equal values count as half.

    `labels` [P] are P(second preferred); pairs at 0.5 are excluded. None if no pair remains.
    """
    decided = labels != 0.5
    if not decided.any():
        return None
    prediction = np.sign(second - first)[decided]
    return float(np.mean((1 + prediction * np.sign(labels[decided] - 0.5)) / 2))
