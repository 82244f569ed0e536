"""The estimator `ncis`: normalised capped importance sampling (paper, Eq. 12), and weighted means of session levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefrec_ray.dataset import floats
from prefrec_ray.engagement import task_levels, user_means
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.results.names import Subject, length_only
from prefrec_ray.evaluation.results.records import ServedItems
from prefrec_ray.evaluation.results.scores import Findings, Scores
from prefrec_ray.ids import codes, first_rows, run_lengths
from prefrec_ray.settings import Task


@dataclass(frozen=True)
class LoggedSessions:
    """One row per session, by user and in time order."""

    user: np.ndarray  # int64 [M], ascending: 0 for the first user
    depth_level: np.ndarray  # float64 [M]
    frequency_level: np.ndarray  # float64 [M], NaN if null
    depth: np.ndarray  # float64 [M], impressions
    log_rho: np.ndarray  # float64 [M, subjects], before the cap

    @property
    def users(self) -> int:
        return int(self.user.max(initial=-1)) + 1

    @classmethod
    def concatenate(cls, parts: Sequence[LoggedSessions]) -> LoggedSessions:
        """Join the sessions of several parts, which have no user in common."""
        users = np.cumsum([0, *(part.users for part in parts[:-1])])
        columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        columns["user"] += np.repeat(users, [len(part.user) for part in parts])
        return cls(**columns)


class ScoredSplit(NamedTuple):
    """Result of the pass over the split: all sessions with the log weights of `request.subjects`, and served items.

    Sessions are None without the estimator `ncis`. Items are by name, of the policies, behavior cloning and the logging
    policy.
    """

    sessions: LoggedSessions | None
    served: dict[str, ServedItems]


class Ncis:
    """The estimator `ncis`.

    The value of a user with sessions i and levels l_i is sum_i w_i l_i / sum_i w_i, with w_i = min(rho_i, cap) and
    rho_i the ratio of kernel densities of the policy's action and of behavior cloning's action at the logged action,
    aggregated over the session. It ranks policies near the log; its values are biased towards the logging policy.

    Settings: `ncis` (sigma, cap, mode, aggregate). Reference: Swaminathan and Joachims 2015, "The Self-Normalized
    Estimator for Counterfactual Learning".
    """

    def __init__(self, work: EvaluationWork) -> None:
        self.request = work.request
        self.names = work.chosen("ncis")

    def start(self) -> None:
        """The pass over the split computes the weights."""

    def finish(self, split: ScoredSplit) -> Findings:
        assert split.sessions is not None
        return Findings([ncis_scores(self.request, task, split.sessions) for task in self.request.tasks])


def ncis_scores(request: EvaluationRequest, task: Task, sessions: LoggedSessions) -> Scores:
    """Return NCIS of the task's subjects. Raises `UserError` if no session has a level."""
    ncis = request.settings.ncis
    sessions = replace(sessions, log_rho=sessions.log_rho[:, request.columns(task)])
    about = {**ncis.model_dump(), "residual_rms": request.clone.residual_rms}
    return session_scores(request, task, "ncis", sessions, request.subjects_on(task), about, ncis.cap)


def session_scores(
    request: EvaluationRequest,
    task: Task,
    estimator: str,
    sessions: LoggedSessions,
    subjects: Sequence[Subject],
    about: Mapping[str, Any],
    cap: float | None = None,
    own: Sequence[Mapping[str, Any]] = (),
) -> Scores:
    """Return weighted means of the levels of each user's sessions by the log weights of `subjects`.

    Session-length controls of the policies are added. Sessions without a level, and users without other sessions, are
    excluded. `about`: settings in the records; `own`: additional fields of each subject's record. Raises `UserError` if
    no session remains.
    """
    settings = request.settings
    mixture_weight = request.dataset.metadata.mixture_weight
    level = task_levels(task, sessions.depth_level, sessions.frequency_level, mixture_weight)
    kept = np.isfinite(level)
    if not kept.any():
        raise UserError("evaluation: no session has a level; expected users with more than one session")
    relative_depth = sessions.depth / user_means(sessions.user, sessions.depth, sessions.users)[sessions.user]
    user, level = sessions.user[kept], level[kept]
    weights = normalised_weights(user, sessions.log_rho[kept], cap)
    policies = [i for i, subject in enumerate(subjects) if subject.role == "policy"]
    weights = np.hstack([weights, length_only_weights(relative_depth[kept], weights[:, policies])])
    lengths = [Subject(length_only(subjects[i].name), subjects[i].method, "control") for i in policies]
    logging = user_values(user, level, np.ones(len(user)))
    return Scores(
        task=task,
        estimator=estimator,
        subjects=[*subjects, *lengths],
        values=user_values(user, level, weights),
        logging=logging,
        ess=effective_share(user, weights),
        counts={"users": len(logging), "sessions": len(user), "users_left_out": sessions.users - len(logging)},
        settings={**about, "split": settings.split, "seed": settings.seed},
        own=own,
    )


def session_columns(sessions: pa.Table, log_rho: np.ndarray) -> LoggedSessions:
    """Return `sessions` (from `read_sessions`) with the log weights [M, subjects] of its rows."""
    return LoggedSessions(
        user=codes(sessions["user_id"]),
        depth_level=floats(sessions["level_depth"]),
        frequency_level=floats(sessions["level_frequency"]),
        depth=floats(sessions["depth"]),
        log_rho=log_rho,
    )


def request_log_weights(
    logged: np.ndarray, policy: np.ndarray, clone: np.ndarray, sigma: float, mode: str
) -> np.ndarray:
    """Return l_t, float64 [N], from the actions in the log, of the policy and of the clone, float32 [N, A].

    `sigma` is in units of the actions.
    """
    scale = -0.5 / sigma**2
    kernel = scale * _squared_distance(logged, policy)
    if mode == "ratio":
        return kernel - scale * _squared_distance(logged, clone)
    return kernel - 0.5 * logged.shape[1] * np.log(2 * np.pi * sigma**2)


def session_log_weights(log_weights: np.ndarray, first: np.ndarray, aggregate: str, depth: np.ndarray) -> np.ndarray:
    """Return log rho before the cap, float64 [M, ...], of sessions from rows `first` (int64 [M], ascending from 0).

    `log_weights` is l_t [N, ...]; a session's rows lie together, in time order. The log weight of a page is the sum
    over its items, and `geometric` is the mean over the pages of a session, `depth` [M].
    """
    total = np.add.reduceat(log_weights, first)
    if aggregate == "product":
        return total
    return total / depth.reshape(-1, *[1] * (log_weights.ndim - 1))


def normalised_weights(user: np.ndarray, log_rho: np.ndarray, cap: float | None) -> np.ndarray:
    """Return min(rho, cap) divided by its mean within the user, float64 [M, ...]. `user` int64 [M] is ascending.

    The computation is in log space, so that a user has weights even if every rho underflows.
    """
    capped = log_rho if cap is None else np.minimum(log_rho, np.log(cap))
    first, count = _runs(user)
    top = np.repeat(np.maximum.reduceat(capped, first), count, axis=0)
    rho = np.exp(capped - top)
    total = np.repeat(np.add.reduceat(rho, first), count, axis=0)
    return rho / total * np.repeat(count, count).reshape(-1, *[1] * (log_rho.ndim - 1))


def user_values(user: np.ndarray, level: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return each user's mean level weighted by `weight` [M, ...] (the bracket of Eq. 12), float64 [U, ...].

    `user` [M] is ascending.
    """
    first, _ = _runs(user)
    levels = level.reshape(-1, *[1] * (weight.ndim - 1))
    return np.add.reduceat(weight * levels, first) / np.add.reduceat(weight, first)


def effective_share(user: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the effective sample size as a share of the sessions, float64 [...].

    A user's effective number of sessions is (sum w)^2 / sum w^2 (Kish), from 1 to their number; the share is the sum of
    these numbers over users, divided by the number of sessions. It therefore does not depend on how weights compare
    between users.
    """
    first, _ = _runs(user)
    effective = np.add.reduceat(weight, first) ** 2 / np.add.reduceat(weight**2, first)
    return effective.sum(axis=0) / len(user)


def length_only_weights(relative_depth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Replace each weight [M, ...] by the mean weight of sessions with a similar relative depth.

    `relative_depth` [M] is a session's depth divided by the mean depth of its user; sessions between the same two of
    its deciles are similar. A gain under these weights comes only from session length.
    """
    edges = np.unique(np.quantile(relative_depth, np.arange(1, 10) / 10))
    cell = np.searchsorted(edges, relative_depth, side="right")
    order = np.argsort(cell, kind="stable")
    first, count = _runs(cell[order])
    means = np.add.reduceat(weight[order], first) / count.reshape(-1, *[1] * (weight.ndim - 1))
    replaced = np.empty_like(weight)
    replaced[order] = np.repeat(means, count, axis=0)
    return replaced


def _squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = a - b
    return np.einsum("na,na->n", difference, difference).astype(np.float64)


def _runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row and the length of every run of equal keys."""
    first = first_rows(keys)
    return first, run_lengths(first, len(keys))
