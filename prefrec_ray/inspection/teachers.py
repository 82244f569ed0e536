"""Diagnosis of a teacher: how well simple rules predict its labels without actions.

If the number of sessions in a segment, or only the user, already predicts the preferred segment, a high accuracy of a
reward model is not evidence that it learned about actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream, codes, first_rows, run_lengths
from prefrec_ray.preferences import DRAWS, SCRIPTED, PreferenceSettings, Sessions, find_scoring, label
from prefrec_ray.settings import parse

#: Sessions that are read, in whole buckets of users; a bucket is a random sample of the users.
_SESSIONS = 1_000_000
_PAIRS = 4000  # per pairing
_DRAWS = 16  # segments of each user, for the variance between users


@dataclass(frozen=True, eq=False)
class SampledSessions:
    """M sessions of U users with enough impressions, by user and in time order."""

    starts: np.ndarray  # int64 [U], the first session of each user
    depth: np.ndarray  # int64 [M]
    level_depth: np.ndarray  # float64 [M]
    level_frequency: np.ndarray  # float64 [M], NaN if undefined

    @property
    def requests(self) -> np.ndarray:
        """Return the number of impressions of each user, int64 [U]."""
        return np.add.reduceat(self.depth, self.starts)


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


def between_share(scores: np.ndarray) -> float:
    """Return the share of the variance between rows of `scores` float64 [U, K]: U users, K segments of each.

    One-way random effects: b / (b + w) with w the mean square within, b = (mean square between - w) / K, at least 0
    (the intraclass correlation ICC(1), Shrout and Fleiss 1979); 0 if nothing varies.
    """
    users, draws = scores.shape
    means = scores.mean(axis=1)
    within = ((scores - means[:, None]) ** 2).sum() / (users * (draws - 1))
    between = max(0.0, (draws * ((means - means.mean()) ** 2).sum() / (users - 1) - within) / draws)
    total = between + within
    return float(between / total) if total > 0 else 0.0


def rule_accuracy(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how often the larger of `first` and `second` [P] is preferred; equal values count as half.

    `labels` [P] are P(second preferred); pairs at 0.5 are excluded. None if no pair remains.
    """
    decided = labels != 0.5
    if not decided.any():
        return None
    prediction = np.sign(second - first)[decided]
    return float(np.mean((1 + prediction * np.sign(labels[decided] - 0.5)) / 2))


def diagnose(
    histories: SampledSessions,
    tasks: Sequence[str],
    length: int,
    mixture_weight: float,
    seed: int,
    pairs: int = _PAIRS,
) -> list[Diagnosis]:
    """Diagnose every scripted teacher on every task, on fresh pairs of segments of `length` impressions.

    A pairing has the same pairs for all. `histories`: at least two users, each with more than 2 `length` impressions.
    """
    requests = histories.requests
    users = len(requests)
    rng = np.random.default_rng((seed, Stream.DIAGNOSIS))
    drawn = {name: pairing(rng, requests, length, pairs) for name, pairing in DRAWS.items()}
    each_user = np.repeat(np.arange(users), _DRAWS)
    each_start = rng.integers(0, requests[each_user] - length)
    diagnoses = []
    for task in tasks:
        levels = task_levels(task, histories.level_depth, histories.level_frequency, mixture_weight)
        sessions = Sessions.from_depths(histories.starts, histories.depth, levels)
        for name, teacher in SCRIPTED.items():
            p, score, within = drawn[teacher.pairing], find_scoring(teacher.scoring), teacher.pairing == "within_user"
            user, start = p.user.ravel(), p.start.ravel()
            first, end = sessions.ending_in(user, start, length)
            scores = score(sessions, user, start, length).reshape(-1, 2)
            of_user = score(sessions, each_user, each_start, length).reshape(users, _DRAWS)
            labels = label(scores[:, 0], scores[:, 1])
            more = rule_accuracy(labels, *(end - first).reshape(-1, 2).T)
            diagnoses.append(
                Diagnosis(
                    task=task,
                    teacher=name,
                    ties=float(np.mean(labels == 0.5)),
                    between_users=between_share(of_user),
                    sessions=None if more is None else max(more, 1 - more),
                    prefers_more=more is None or more >= 0.5,
                    user=None if within else rule_accuracy(labels, *of_user.mean(axis=1)[p.user].T),
                )
            )
    return diagnoses


def diagnose_dataset(dataset: PreparedDataset) -> list[Diagnosis]:
    """Run `diagnose` with the data set's segment length on training and validation users (about a million sessions).

    Raises `UserError` if fewer than two users have enough impressions.
    """
    about = dataset.metadata
    keys = about.settings.get("preferences", {})
    sizes = {key: keys[key] for key in ("length", "min_requests") if key in keys}
    settings = parse(PreferenceSettings, sizes, f"{dataset.uri}: metadata.json: preferences")
    histories = load_histories(dataset, settings.min_requests)
    return diagnose(histories, about.tasks, settings.length, about.mixture_weight, about.seed)


def load_histories(dataset: PreparedDataset, min_requests: int, limit: int = _SESSIONS) -> SampledSessions:
    """Return sessions of training and validation users with more than `min_requests` impressions.

    Reads whole files until it has `limit` sessions. Raises `UserError` for fewer than two such users.
    """
    columns = ["user_id", "depth", "level_depth", "level_frequency", "split"]
    parts, users, sessions = [], 0, 0
    for file in dataset.files("sessions"):
        table = dataset.read(file, columns=columns)
        starts = first_rows(codes(table["user_id"]))
        sizes = run_lengths(starts, len(table))
        depth = table["depth"].to_numpy()
        users_kept = np.add.reduceat(depth, starts) > min_requests
        users_kept &= table["split"].to_numpy(zero_copy_only=False)[starts] != "test"
        keep = np.repeat(users_kept, sizes)
        levels = [table[name].to_numpy()[keep].astype(np.float64) for name in ("level_depth", "level_frequency")]
        parts.append((sizes[users_kept], depth[keep], *levels))
        users, sessions = users + len(parts[-1][0]), sessions + len(parts[-1][1])
        if sessions >= limit:
            break
    if users < 2:
        raise UserError(
            f"{dataset.uri}: {users} training and validation users have more than {min_requests} impressions; "
            "expected 2"
        )
    sizes, depth, level_depth, level_frequency = (np.concatenate(column) for column in zip(*parts, strict=True))
    return SampledSessions(np.cumsum(sizes) - sizes, depth, level_depth, level_frequency)
