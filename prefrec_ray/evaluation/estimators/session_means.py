"""The estimators `ncis` and `weights`: weighted means of the levels of logged sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.estimator import Inputs
from prefrec_ray.evaluation.estimators.importance_weights import WINDOW
from prefrec_ray.evaluation.estimators.ncis import effective_share, length_only_weights, normalised_weights, user_values
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.logged.sessions import LoggedSessions
from prefrec_ray.evaluation.results.names import Subject, length_only
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.settings import Task


class NCIS:
    """Normalised capped importance sampling (paper, Eq. 12).

    The value of a user with sessions i and levels l_i is sum_i w_i l_i / sum_i w_i, with w_i = min(rho_i, cap) and
    rho_i the ratio of kernel densities of the policy's action and of behavior cloning's action at the logged action,
    aggregated over the session. It ranks policies near the log; its values are biased towards the logging policy.

    Settings: `ncis` (sigma, cap, mode, aggregate). Reference: Swaminathan and Joachims 2015, "The Self-Normalized
    Estimator for Counterfactual Learning".
    """

    name: ClassVar[Literal["ncis"]] = "ncis"

    def scores(self, inputs: Inputs, task: Task) -> Scores:
        """Return NCIS of the task's subjects, and session-length controls of its policies."""
        sessions = inputs.sessions.take(inputs.request.columns(task))
        return ncis_scores(inputs.request, task, sessions, _levels(inputs.request, task, sessions))


class ImportanceSampling:
    """Importance weights over items, for policies that draw from the whole catalogue.

    The value of a user is the weighted mean of the levels of the sessions. The weight of a session is the number of the
    policy's sessions that it represents, from products of pi(i | s) / b(i | s) over `WINDOW` consecutive impressions
    (importance_weights.py). No estimate is given below 100 effective sessions.

    Reference: product limit of Kaplan and Meier 1958 for weighted sessions; b is logged or fitted
    (subjects/behavior.py).
    """

    name: ClassVar[Literal["weights"]] = "weights"

    def scores(self, inputs: Inputs, task: Task) -> Scores | None:
        """Return weighted means of the subjects with enough effective sessions; None if no policy has enough."""
        request, weighed = inputs.request, inputs.weighed
        subjects = [s for s in request.subjects_on(task) if s.name in weighed and weighed[s.name].enough]
        if not any(subject.role == "policy" for subject in subjects):
            return None
        own = [weighed[subject.name] for subject in subjects]
        sessions = replace(own[0].sessions, log_rho=np.hstack([one.sessions.log_rho for one in own]))
        level, fields = _levels(request, task, sessions), [one.about for one in own]
        return _means(request, task, self.name, subjects, sessions, level, {"window": WINDOW}, None, own=fields)


def ncis_scores(request: EvaluationRequest, task: Task, sessions: LoggedSessions, level: np.ndarray) -> Scores:
    """Return NCIS from levels [M] (NaN: null) and log weights of the task's subjects, with session-length controls.

    Sessions and users without a level are excluded. Raises `UserError` if none remains.
    """
    settings = request.settings
    about = {**settings.ncis.model_dump(), "residual_rms": request.clone.residual_rms}
    subjects = request.subjects_on(task)
    return _means(request, task, NCIS.name, subjects, sessions, level, about, settings.ncis.cap)


def _levels(request: EvaluationRequest, task: Task, sessions: LoggedSessions) -> np.ndarray:
    weight = request.dataset.metadata.mixture_weight
    return task_levels(task, sessions.depth_level, sessions.frequency_level, weight)


def _means(
    request: EvaluationRequest,
    task: Task,
    estimator: Literal["ncis", "weights"],
    subjects: Sequence[Subject],
    sessions: LoggedSessions,
    level: np.ndarray,
    about: Mapping[str, Any],
    cap: float | None,
    own: Sequence[Mapping[str, Any]] = (),
) -> Scores:
    """Return weighted means of the levels [M] of each user's sessions by the log weights of `subjects`.

    `own`: additional record fields of each subject.
    """
    kept = np.isfinite(level)
    if not kept.any():
        raise UserError("evaluation: no session has a level; expected users with more than one session")
    user, depth = sessions.user[kept], sessions.relative_depth[kept]
    settings = request.settings
    weights = normalised_weights(user, sessions.log_rho[kept], cap)
    policies = [i for i, subject in enumerate(subjects) if subject.role == "policy"]
    weights = np.hstack([weights, length_only_weights(depth, weights[:, policies])])
    logging = user_values(user, level[kept], np.ones(len(user)))
    lengths = [Subject(length_only(subjects[i].name), subjects[i].method, "control") for i in policies]
    return Scores(
        task=task,
        estimator=estimator,
        subjects=[*subjects, *lengths],
        values=user_values(user, level[kept], weights),
        logging=logging,
        ess=effective_share(user, weights),
        counts={
            "users": len(logging),
            "sessions": len(user),
            "users_left_out": int(sessions.user[-1]) + 1 - len(logging),
        },
        settings={**about, "split": settings.split, "seed": settings.seed},
        own_settings=own,
    )
