"""The estimator `weights`, for policies with known item probabilities, and effective sample sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.importance_weights import (
    Effective,
    effective,
    repeats,
    session_weights,
    shown_before,
)
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.logged.sessions import LoggedSessions
from prefrec_ray.evaluation.logged.trajectories import Trajectories, read_trajectories, trajectories_of
from prefrec_ray.evaluation.results.names import RANDOM_ITEMS, Subject
from prefrec_ray.evaluation.results.records import ENOUGH
from prefrec_ray.evaluation.subjects.behavior import BehaviorModel, calibration, fit_behavior
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks

#: Approximate number of weighted impressions, of whole users. Every item of the catalogue is scored for each.
ROWS = 20_000
#: The same if only the effective sample size next to `model` is needed.
SHARE_ROWS = 5_000
#: Approximate number of impressions of training users to which the model of the logging policy is fitted.
TRAINING_ROWS = 100_000
_CHUNK = 512


@dataclass(frozen=True)
class Logged:
    """Impressions of the split, and log b(i | s) of the shown items, float64 [N].

    `about`: source of b. `model`: fitted model of b if the log does not contain all propensities.
    """

    data: Trajectories
    log_b: np.ndarray
    repeats: bool
    about: dict[str, Any]
    model: BehaviorModel | None = None


@dataclass(frozen=True)
class Weighed:
    """Importance weights of one subject.

    `log_weight`: log pi / b of each impression, float64 [N]. `sessions`: sessions with their log weights [M, 1].
    `about`: source of b, and the mean weight of an impression, which is 1 for a correct b.
    """

    log_weight: np.ndarray
    sessions: LoggedSessions
    effective: Effective
    about: dict[str, Any]

    @property
    def enough(self) -> bool:
        """Return True if there are enough effective sessions for an estimate."""
        return self.effective.sessions * len(self.sessions.user) >= ENOUGH


def weighable(request: EvaluationRequest) -> list[Subject]:
    """Return the subjects that can draw every item: policies that sample from the whole catalogue, and random items."""
    policies = [s for s in request.subjects if s.role == "policy" and request.policies[s.name].draws_from_all]
    return policies and [*policies, *(s for s in request.subjects if s.name == RANDOM_ITEMS)]


def start_weighing(request: EvaluationRequest) -> ray.ObjectRef | None:
    """Start computing `Logged` for `weigh_all` on users of the split; None if no policy can be weighted."""
    if not weighable(request):
        return None
    uri, settings = request.dataset.uri, request.settings
    rows = ROWS if {"weights", "dr"} & set(settings.estimators) else SHARE_ROWS
    return logged_chances(uri, settings.seed, read_trajectories.remote(uri, settings.split, settings.seed, rows))


def weigh_all(
    request: EvaluationRequest, logged: ray.ObjectRef, progress: Callable[[str, int, int], None]
) -> dict[str, Weighed]:
    """Return the weights of all `weighable` subjects by name, from the result of `start_weighing`."""
    shared = [ray.put(request), logged]
    names = [subject.name for subject in weighable(request)]
    weighed = run_tasks(lambda name: weigh_one.remote(name, shared), names, "weigh impressions: policies", progress)
    return dict(zip(names, weighed, strict=True))


def logged_chances(
    uri: str, seed: int, held: ray.ObjectRef, before: ray.ObjectRef | None = None, calibrate: bool = True
) -> ray.ObjectRef:
    """Return `Logged` for the trajectories `held`, with a fitted model if the log lacks propensities.

    The model of `before`, a `Logged` of the same seed, is used again. `calibrate`: also compute the calibration of the
    model, which takes as long as all probabilities.
    """
    return _logged.remote(uri, seed, held, before, calibrate)


@ray.remote(num_cpus=1)
def _logged(uri: str, seed: int, held: Trajectories, before: Logged | None, calibrate: bool) -> Logged:
    known = np.isfinite(held.propensity)
    log_b = np.log(held.propensity)
    about: dict[str, Any] = {"propensities": "logged"}
    again, model = repeats(held), None
    if not known.all():
        model = None if before is None else before.model
        if model is None:
            dataset = PreparedDataset.open(uri)
            model = fit_behavior(trajectories_of(dataset, "train", seed, TRAINING_ROWS), dataset.items(), seed)
        excluded = None if again else partial(shown_before, held)
        for part in _parts(len(held.row)):
            out = None if excluded is None else excluded(part)
            fitted = model.log_probabilities(held.state[part], held.row[part], out)
            log_b[part] = np.where(known[part], log_b[part], fitted)
        about = {"propensities": "fitted"}
        if calibrate:
            about["calibration"] = calibration(model, held.state, held.row, excluded)
    return Logged(held, log_b, again, about, model)


@ray.remote(num_cpus=1)
def weigh_one(name: str, shared: list[Any]) -> Weighed:
    """Run `weigh` in a task, with its inputs by reference."""
    request, logged = (ray.get(reference) for reference in shared)
    return weigh(name, request, logged)


def weigh(name: str, request: EvaluationRequest, logged: Logged) -> Weighed:
    """Return the weights of one subject."""
    data = logged.data
    policy = None if name == RANDOM_ITEMS else request.policies[name]
    items = len(request.clone.policy.items)  # of the data set, without reading it again
    log_weight = log_chances(policy, data, items, logged.repeats) - logged.log_b
    depth = np.diff(data.first, append=len(data.row)).astype(np.float64)
    sessions = LoggedSessions(
        user=data.user,
        depth_level=data.depth_level,
        frequency_level=data.frequency_level,
        relative_depth=depth / (np.bincount(data.user, depth) / np.bincount(data.user))[data.user],
        log_rho=session_weights(log_weight, data)[:, None],
    )
    about = {**logged.about, "mean_weight": float(np.exp(log_weight).mean())}
    return Weighed(log_weight, sessions, effective(log_weight, data), about)


def log_chances(policy: Policy | None, data: Trajectories, items: int, again: bool) -> np.ndarray:
    """Return log pi(i | s) of the shown items, float64 [N]. Without a policy, pi is uniform over `items` items.

    Items shown earlier are excluded, unless items are shown `again`.
    """
    log_pi = np.empty(len(data.row))
    for part in _parts(len(data.row)):
        out = None if again else shown_before(data, part)
        if policy is None:
            log_pi[part] = -np.log(items - (0 if out is None else out.counts()))
        else:
            chances = policy.probabilities(data.state[part], data.row[part], out)
            log_pi[part] = np.log(np.maximum(chances, np.finfo(np.float64).tiny))  # 0 only from rounding
    return log_pi


def _parts(rows: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK)]
