"""`evaluate`: all estimates for the policies and controls of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from prefrec_ray import runtime
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.fitted_q import Fitted, fit_all
from prefrec_ray.evaluation.estimators.importance_sampling import Weighed, start_weighing, weigh_all
from prefrec_ray.evaluation.estimators.importance_weights import WINDOW
from prefrec_ray.evaluation.estimators.logged_sessions import score_split
from prefrec_ray.evaluation.estimators.model import model_all, model_scores, supports
from prefrec_ray.evaluation.estimators.ncis import effective_share, length_only_weights, normalised_weights, user_values
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.sensitivity import estimates, ncis_sensitivity
from prefrec_ray.evaluation.logged.sessions import Sessions
from prefrec_ray.evaluation.results.names import BEHAVIOUR, Subject, length_only
from prefrec_ray.evaluation.results.records import Evaluation, SensitivityPoint
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.results.served import in_roll_out, summarise
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.settings import Task


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluation:
    """Score every policy and control on its tasks with each estimator of the settings, and tally served items.

    `ncis` (Eq. 12) takes one pass over the split. `fqe` and `dr` (fitted_q.py) fit networks for each subject. `weights`
    (importance_sampling.py) scores every item in a sample of impressions, which also gives the effective sample size
    next to `model`.

    Raises `UserError`: errors of `EvaluationRequest.check`, a split without impressions, no user with a level.
    """
    request.check()
    runtime.start_ray()
    weighs = {"model", "weights"} & set(request.settings.estimators)
    logged = start_weighing(request) if weighs else None  # one process, parallel to the pass over the split
    sessions, tallies = score_split(request, progress)
    scores, support = [], {}
    served = {name: summarise(parts) for name, parts in tallies.items()}
    weighed = {} if logged is None else weigh_all(request, logged, progress)
    if "model" in request.settings.estimators:
        modelled, ids = model_all(request, progress), request.dataset.items().ids
        scores += [model_scores(request, task, modelled) for task in request.tasks]
        shown = {name: modelled[name].imagined for name in request.actors}
        served |= {name: in_roll_out(served[name], ids, one.counts, one.ceiling) for name, one in shown.items()}
        support = supports(request, modelled, {name: one.effective for name, one in weighed.items()})
    if "weights" in request.settings.estimators:
        scores += [one for task in request.tasks for one in _weights(request, task, weighed)]
    if sessions is not None:
        scores += [_ncis(request, task, sessions) for task in request.tasks]
    if {"fqe", "dr"} & set(request.settings.estimators):
        fitted = fit_all(request, progress, logged)
        scores += [one for task in request.tasks for one in _fitted(request, task, fitted[task])]
    with step(progress, "compute intervals"):
        records = tuple(record for one in scores for record in one.records(request.settings.seed))
    return Evaluation(
        dataset=request.dataset.uri,
        split=request.settings.split,
        records=records,
        served=served,
        support=support,
    )


def _ncis(request: EvaluationRequest, task: Task, sessions: Sessions) -> Scores:
    weight = request.dataset.metadata.mixture_weight
    level = task_levels(task, sessions.depth_level, sessions.frequency_level, weight)
    return ncis_scores(request, task, sessions.take(request.columns(task)), level)


def ncis_scores(request: EvaluationRequest, task: Task, sessions: Sessions, level: np.ndarray) -> Scores:
    """Return NCIS from levels [M] (NaN: null) and log weights of the task's subjects, with session-length controls.

    Sessions and users without a level are excluded. Raises `UserError` if none remains.
    """
    settings, grid = request.settings, request.other_kernels
    about = {**settings.ncis.model_dump(), "residual_rms": request.clone.residual_rms}
    sensitivity = ncis_sensitivity(sessions, level, settings.ncis, grid) if grid else ()
    cap = settings.ncis.cap
    return _means(request, task, "ncis", request.subjects_on(task), sessions, level, about, cap, sensitivity)


def _weights(request: EvaluationRequest, task: Task, weighed: Mapping[str, Weighed]) -> list[Scores]:
    """Return the estimator `weights` for subjects with enough effective sessions; nothing if no policy has enough."""
    having = {name for name, one in weighed.items() if one.enough}
    subjects = [subject for subject in request.subjects_on(task) if subject.name in having]
    if not any(subject.role == "policy" for subject in subjects):
        return []
    own = [weighed[subject.name] for subject in subjects]
    sessions = replace(own[0].sessions, log_rho=np.hstack([one.sessions.log_rho for one in own]))
    level = task_levels(task, sessions.depth_level, sessions.frequency_level, request.dataset.metadata.mixture_weight)
    how = [one.about for one in own]
    return [_means(request, task, "weights", subjects, sessions, level, {"window": WINDOW}, cap=None, own=how)]


def _means(
    request: EvaluationRequest,
    task: Task,
    estimator: Literal["ncis", "weights"],
    subjects: Sequence[Subject],
    sessions: Sessions,
    level: np.ndarray,
    about: Mapping[str, Any],
    cap: float | None,
    sensitivity: Sequence[Sequence[SensitivityPoint]] = (),
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
    return Scores(
        task=task,
        estimator=estimator,
        subjects=[
            *subjects,
            *(Subject(length_only(subjects[i].name), subjects[i].method, "control") for i in policies),
        ],
        values=user_values(user, level[kept], weights),
        logging=logging,
        ess=effective_share(user, weights),
        counts={
            "users": len(logging),
            "sessions": len(user),
            "users_left_out": int(sessions.user[-1]) + 1 - len(logging),
        },
        settings={**about, "split": settings.split, "seed": settings.seed},
        sensitivity=sensitivity,
        own_settings=own,
    )


def _fitted(request: EvaluationRequest, task: Task, fitted: Mapping[str, Fitted]) -> list[Scores]:
    """Return the scores of `fqe` and `dr`, as far as the settings select them."""
    settings, ncis = request.settings, request.settings.ncis
    subjects, logging = request.subjects_on(task), fitted[BEHAVIOUR]
    own = [fitted[subject.name] for subject in subjects]
    about = {**settings.fqe.model_dump(), "split": settings.split, "seed": settings.seed}
    kernel = {"mode": "ratio", "sigma": ncis.sigma, "cap": ncis.cap, "residual_rms": request.clone.residual_rms}
    scores = []
    if "fqe" in settings.estimators:
        values, networks = np.stack([one.fqe for one in own], axis=1), _networks("fqe", own, logging)
        scores.append(Scores(task, "fqe", subjects, values, logging.fqe, None, logging.counts, about, networks))
    if "dr" in settings.estimators:
        values, ess = np.stack([one.dr[0] for one in own], axis=1), np.array([one.ess[0] for one in own])
        networks, grid, behaviour = _networks("dr", own, logging), request.other_kernels, float(logging.dr[0].mean())
        points = [estimates(grid, one.dr[1:].mean(axis=1), one.ess[1:], behaviour) for one in own] if grid else []
        how = [kernel if one.kernel else {"window": WINDOW} for one in own]
        of_dr = Scores(task, "dr", subjects, values, logging.dr[0], ess, logging.counts, about, networks, points)
        scores.append(replace(of_dr, own_settings=how))
    return scores


def _networks(estimator: str, own: Sequence[Fitted], logging: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over users per network: [K, L] of the subjects and [K, 1] of the logging policy."""
    return np.stack([one.by_network[estimator] for one in own], axis=1), logging.by_network[estimator][:, None]
