"""`evaluate`: policies and a prepared data set in, the records of evaluation.json out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from prefrec_ray import runtime, storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone, fit_clone
from prefrec_ray.evaluation.intervals import bootstrap_interval
from prefrec_ray.evaluation.ncis import (
    NcisSettings,
    effective_share,
    length_only_weights,
    normalised_weights,
    user_values,
)
from prefrec_ray.evaluation.scoring import score_split
from prefrec_ray.evaluation.served import summarise
from prefrec_ray.evaluation.sessions import Sessions
from prefrec_ray.evaluation.subjects import Subject, check_names, length_only, scored_subjects
from prefrec_ray.policy import Policy

SCHEMA_VERSION = 1

Record = dict[str, Any]
Progress = Callable[[str, int, int], None]  # stage, done, total


def evaluate(
    dataset: PreparedDataset,
    policies: Mapping[str, Policy],
    tasks: Sequence[str],
    split: str = "test",
    settings: NcisSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    clone: BehaviourClone | None = None,
) -> tuple[list[Record], dict[str, dict[str, Any]]]:
    """NCIS (Eq. 12) of every policy and control on every task, in one pass over the split; and by name what they serve.

    A record: method, task, estimator ("ncis"), subject, role ("policy", "placebo" or "control"), value, its 95 %
    interval over users ci_low to ci_high, ess (a share of the sessions), behaviour (equal weights), gain_ci_low to
    gain_ci_high (the interval of value - behaviour, both on the same users drawn), users, sessions, users_left_out,
    settings. `progress(stage, done, total)` counts files. `clone` is `fit_clone(dataset, seed)` if left out.

    Raises `UserError`: a policy's name that is taken, states that are not the data set's, a split without requests.
    """
    settings = settings or NcisSettings()
    _check(dataset, policies)
    runtime.start_ray()
    report: Progress = progress or (lambda stage, done, total: None)
    if clone is None:
        report("clone", 0, 1)
        clone = fit_clone(dataset, seed)
        report("clone", 1, 1)
    sessions, served = score_split(dataset, split, policies, clone, settings, seed, partial(report, "evaluate"))
    described = {**settings.model_dump(), "residual_rms": clone.residual_rms, "split": split, "seed": seed}
    weight = dataset.metadata.mixture_weight
    records = []
    for task in tasks:
        level = task_levels(task, sessions.depth_level, sessions.frequency_level, weight)
        for record in task_records(sessions, level, scored_subjects(policies), settings.cap, seed):
            records.append({**record, "task": task, "settings": described})
    return records, {name: summarise(tallies) for name, tallies in served.items()}


def task_records(
    sessions: Sessions, level: np.ndarray, subjects: Sequence[Subject], cap: float | None, seed: int
) -> list[Record]:
    """Records without task and settings, from the levels [M] (NaN: null) and the log weights of `subjects`.

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
    gains = values - behaviour[:, None]
    low, high = bootstrap_interval(np.hstack([values, gains]), seed)
    ess = effective_share(user, weights)
    counts = {
        "users": len(behaviour),
        "sessions": len(level),
        "users_left_out": int(sessions.user[-1]) + 1 - len(behaviour),
    }
    return [
        {
            "method": line.method,
            "estimator": "ncis",
            "subject": line.name,
            "role": line.role,
            "value": float(values[:, i].mean()),
            "ci_low": float(low[i]),
            "ci_high": float(high[i]),
            "ess": float(ess[i]),
            "behaviour": float(behaviour.mean()),
            "gain_ci_low": float(low[len(lines) + i]),
            "gain_ci_high": float(high[len(lines) + i]),
            **counts,
        }
        for i, line in enumerate(lines)
    ]


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
