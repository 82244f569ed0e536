"""`evaluate`: policies and a prepared data set in, the records of evaluation.json out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from prefrec_ray import runtime, storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone, fit_clone
from prefrec_ray.evaluation.fitted import Fitted, fit_all
from prefrec_ray.evaluation.intervals import bootstrap_interval, widened
from prefrec_ray.evaluation.ncis import effective_share, length_only_weights, normalised_weights, user_values
from prefrec_ray.evaluation.scoring import score_split
from prefrec_ray.evaluation.sensitivity import Kernels, check_scales, kernels, ncis_sensitivity, points
from prefrec_ray.evaluation.served import summarise
from prefrec_ray.evaluation.sessions import Sessions
from prefrec_ray.evaluation.settings import FqeSettings, NcisSettings
from prefrec_ray.evaluation.subjects import BEHAVIOUR, Subject, check_names, length_only, scored_subjects, subject_of
from prefrec_ray.policy import Policy
from prefrec_ray.terms import Progress, silent

SCHEMA_VERSION = 1

Record = dict[str, Any]


def evaluate(
    dataset: PreparedDataset,
    policies: Mapping[str, Policy],
    tasks: Sequence[str],
    split: str = "test",
    settings: NcisSettings | None = None,
    seed: int = 0,
    progress: Progress = silent,
    clone: BehaviourClone | None = None,
    estimators: Sequence[str] = ("ncis",),
    fqe: FqeSettings | None = None,
    trained_for: Mapping[str, str] | None = None,
    sensitivity: bool = False,
) -> tuple[list[Record], dict[str, dict[str, Any]]]:
    """Every policy and control on every task by each of `estimators`, and by name what they serve.

    `ncis` (Eq. 12) takes one pass over the split; `fqe` and `dr` (fitted.py) fit a network for each subject.
    `trained_for` names a policy's only task; without it a policy is scored on all.

    A record: method, task, estimator, subject, role ("policy", "placebo" or "control"), value, its 95 % interval over
    users ci_low to ci_high, ess (a share of the sessions, or for `dr` of the requests; null for `fqe`), behaviour (of
    the same estimator), gain_ci_low to gain_ci_high (the interval of value - behaviour, both on the same users drawn),
    users, sessions, users_left_out, settings. Policies other than the `best` by value have behind_ci_low to
    behind_ci_high, the paired interval of best - value. With `sensitivity`, records of `ncis` and `dr` hold a list
    `sensitivity` of sigma, cap, value, ess and behaviour. `progress(stage, done, total)` counts files or fits. `clone`
    is `fit_clone(dataset, seed)` if left out.

    Raises `UserError`: a policy's name that is taken, states that are not the data set's, a split without requests,
    `sensitivity` where log weights are not proportional to 1 / sigma^2.
    """
    settings, fqe, trained_for = settings or NcisSettings(), fqe or FqeSettings(), trained_for or {}
    _check(dataset, policies)
    if sensitivity:
        check_scales(settings)
    runtime.start_ray()
    if clone is None:
        progress("clone", 0, 1)
        clone = fit_clone(dataset, seed)
        progress("clone", 1, 1)
    sessions, served = score_split(dataset, split, policies, clone, settings, seed, partial(progress, "evaluate"))
    subjects = scored_subjects(policies)
    asked = {
        task: [i for i, one in enumerate(subjects) if trained_for.get(subject_of(one.name), task) == task]
        for task in tasks
    }
    lines = {task: [subjects[i] for i in chosen] for task, chosen in asked.items()}
    grid = kernels(settings) if sensitivity else []
    records = []
    if "ncis" in estimators:
        described = {**settings.model_dump(), "residual_rms": clone.residual_rms, "split": split, "seed": seed}
        for task, chosen in asked.items():
            weight = dataset.metadata.mixture_weight
            level = task_levels(task, sessions.depth_level, sessions.frequency_level, weight)
            found = _ncis_records(sessions.take(chosen), level, lines[task], settings, grid, seed)
            records += [{**record, "task": task, "settings": described} for record in found]
    fitted = [estimator for estimator in ("fqe", "dr") if estimator in estimators]
    if fitted:
        at = [(settings.sigma, settings.cap), *grid]
        scores = fit_all(dataset, split, lines, policies, clone, fqe, at, seed, partial(progress, "fqe"))
        described = {**fqe.model_dump(), "split": split, "seed": seed}
        kernel = {"mode": "ratio", "sigma": settings.sigma, "cap": settings.cap, "residual_rms": clone.residual_rms}
        for task in tasks:
            for estimator in fitted:
                made = {**described, **kernel} if estimator == "dr" else described
                found = _fitted_records(estimator, lines[task], scores[task], grid, seed)
                records += [{**record, "task": task, "settings": made} for record in found]
    return records, {name: summarise(tallies) for name, tallies in served.items()}


def _ncis_records(
    sessions: Sessions, level: np.ndarray, lines: Sequence[Subject], settings: NcisSettings, grid: Kernels, seed: int
) -> list[Record]:
    records = task_records(sessions, level, lines, settings.cap, seed)
    if grid:  # the length-only controls, which come last, have none
        for record, found in zip(records, ncis_sensitivity(sessions, level, settings, grid), strict=False):
            record["sensitivity"] = found
    return records


def _fitted_records(
    estimator: str, lines: Sequence[Subject], scores: Mapping[str, Fitted], grid: Kernels, seed: int
) -> list[Record]:
    own, usual = [scores[line.name] for line in lines], scores[BEHAVIOUR]
    networks = tuple(np.stack([one.by_network[estimator] for one in some], axis=1) for some in (own, [usual]))
    if estimator == "fqe":
        values = np.stack([one.fqe for one in own], axis=1)
        return interval_records("fqe", lines, values, usual.fqe, None, usual.counts, seed, networks)
    values, ess = np.stack([one.dr[0] for one in own], axis=1), np.array([one.ess[0] for one in own])
    records = interval_records("dr", lines, values, usual.dr[0], ess, usual.counts, seed, networks)
    if grid:
        for record, one in zip(records, own, strict=True):
            record["sensitivity"] = points(grid, one.dr[1:].mean(axis=1), one.ess[1:], record["behaviour"])
    return records


def task_records(
    sessions: Sessions, level: np.ndarray, subjects: Sequence[Subject], cap: float | None, seed: int
) -> list[Record]:
    """NCIS records without task and settings, from the levels [M] (NaN: null) and the log weights of `subjects`.

    Sessions without a level are left out, and users without one too. Raises `UserError` where nobody is left.
    """
    kept = np.isfinite(level)
    if not kept.any():
        raise UserError("evaluation: no session has a level; expected users with more than one session")
    user, level = sessions.user[kept], level[kept]
    weights = normalised_weights(user, sessions.log_rho[kept], cap)
    policies = [i for i, subject in enumerate(subjects) if subject.role == "policy"]
    by_length = length_only_weights(sessions.relative_depth[kept], weights[:, policies])
    lines = [*subjects, *(Subject(length_only(subjects[i].name), subjects[i].method, "control") for i in policies)]
    weights = np.hstack([weights, by_length])
    values = user_values(user, level, weights)
    behaviour = user_values(user, level, np.ones(len(user)))
    counts = {
        "users": len(behaviour),
        "sessions": len(level),
        "users_left_out": int(sessions.user[-1]) + 1 - len(behaviour),
    }
    return interval_records("ncis", lines, values, behaviour, effective_share(user, weights), counts, seed)


def interval_records(
    estimator: str,
    lines: Sequence[Subject],
    values: np.ndarray,
    behaviour: np.ndarray,
    ess: np.ndarray | None,
    counts: Mapping[str, int],
    seed: int,
    networks: tuple[np.ndarray, ...] | None = None,
) -> list[Record]:
    """A record a line from the values of users [U, lines] and those of behaviour [U], all on the same users drawn.

    `networks`: the means over users by network, of the lines [K, lines] and of behaviour [K, 1], whose scatter the
    intervals hold too.
    """
    means = values.mean(axis=0)
    policies = [i for i, line in enumerate(lines) if line.role == "policy"]
    best = max(policies, key=lambda i: means[i], default=0)
    gains, behind = values - behaviour[:, None], values[:, [best]] - values
    low, high = (bound.reshape(3, -1) for bound in bootstrap_interval(np.hstack([values, gains, behind]), seed))
    if networks is not None:
        mine, usual = networks
        low, high = widened(low, high, np.stack([mine, mine - usual, mine[:, [best]] - mine], axis=1))
    records = []
    for i, line in enumerate(lines):
        record: Record = {
            "method": line.method,
            "estimator": estimator,
            "subject": line.name,
            "role": line.role,
            "value": float(means[i]),
            "ci_low": float(low[0, i]),
            "ci_high": float(high[0, i]),
            "ess": None if ess is None else float(ess[i]),
            "behaviour": float(behaviour.mean()),
            "gain_ci_low": float(low[1, i]),
            "gain_ci_high": float(high[1, i]),
            **counts,
        }
        if i in policies and i != best:
            record |= {
                "best": lines[best].name,
                "behind_ci_low": float(low[2, i]),
                "behind_ci_high": float(high[2, i]),
            }
        records.append(record)
    return records


def write_evaluation(
    path: str, records: Sequence[Record], served: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Writes evaluation.json: schema_version, what `provenance` says (dataset, split), records, served."""
    storage.write_json(
        path, {"schema_version": SCHEMA_VERSION, **provenance, "records": list(records), "served": dict(served)}
    )


def _check(dataset: PreparedDataset, policies: Mapping[str, Policy]) -> None:
    check_names(policies)
    for name, policy in policies.items():
        ours, theirs = dataset.normaliser, policy.normaliser
        same = np.array_equal(ours.mean, theirs.mean) and np.array_equal(ours.std, theirs.std)
        if policy.state != dataset.state or not same:
            raise UserError(f"policy '{name}': its states are not those of {dataset.uri}; expected its own data set")
