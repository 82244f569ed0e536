"""The same networks under a serving rule with enough support by the log.

Items with the highest Q may lead users to states that the log does not contain (support.py). Two parameters of the
serving rule increase support: a higher temperature draws items more evenly, and a larger diversity penalty avoids
recent items. Which of them costs less differs between logs, and is measured in a model of validation users.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection.model_score import SETTINGS, ModelScore, fit_score
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.evaluation.subjects.adapt import adapted
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import Task
from prefrec_ray.users.support import THRESHOLD

#: Support differs between samples of users, so validation users need a higher support than a verdict requires.
WANTED = THRESHOLD + 0.1
#: Values to try, in addition to the policy's own.
TEMPERATURES, VARIETIES = (0.3, 0.6, 1.2), (2.0, 3.0, 4.5, 6.0, 9.0, 12.0)


@dataclass(frozen=True)
class Tried:
    """A serving rule with its support by the log and its level in the model of users."""

    temperature: float
    variety: float
    support: float
    level: float


@dataclass(frozen=True)
class Constrained:
    """The `policy` under the chosen rule, and all rules that were `tried`."""

    policy: Policy
    tried: Sequence[Tried]


def can_constrain(policy: Policy) -> bool:
    """Return whether temperature and diversity penalty affect the policy and were not chosen by `constrain`."""
    return policy.critic is not None and policy.draws_from_all and not policy.provenance.get("constrained")


def constrain(
    policy: Policy,
    dataset: str,
    progress: Progress = silent,
    where: str = "policy",
    model: ModelSettings = SETTINGS,
) -> Constrained:
    """Return the policy under the rule with the highest level among the rules with enough support.

    Its own rule is kept if its support on validation users is at least `WANTED`. Else rules with a higher temperature
    or a larger diversity penalty are tried.

    The model of users has the sizes of `model` if these are smaller than its own. Raises `UserError`, prefixed by
    `where`: items are not drawn by Q from the whole catalogue, histories are too short for a model of users, no rule
    has enough support, or the policy is from another platform (adapt.py).
    """
    serving, task = policy.serving, policy.task
    if policy.critic is None or not policy.draws_from_all:
        raise UserError(
            f"{where}: temperature and variety have no effect on this policy; expected "
            "serving: {rule: sample, candidates: catalogue} of a method that scores items by Q"
        )
    opened = PreparedDataset.open(dataset)
    policy = adapted(policy, opened, opened.items(), where)
    with step(progress, "fit models of users"):
        score = fit_score(dataset, "validation", model)
    shared = ray.put(policy)
    own, temperature = float(serving.variety), float(serving.temperature)
    more = [own, *(variety for variety in VARIETIES if variety > own)]
    with step(progress, "roll out the policy's own rule"):
        tried = ray.get(_try.remote(score, shared, task, temperature, [own]))
    if tried[0].support < WANTED:
        rules = {temperature: more[1:], **{t: more for t in TEMPERATURES if t > temperature}}
        parts = run_tasks(
            lambda t: _try.remote(score, shared, task, t, rules[t]), rules, "try serving rules: temperatures", progress
        )
        tried += chain.from_iterable(parts)
    vouched = [one for one in tried if one.support >= WANTED]
    if not vouched:
        most = max(tried, key=lambda one: one.support)
        raise UserError(
            f"{where}: at most {most.support:.0%} of its states are supported by the log, at temperature "
            f"{most.temperature:g} and variety {most.variety:g}; expected {WANTED:.0%} under some serving rule"
        )
    best = max(vouched, key=lambda one: one.level)
    chosen = policy.under(temperature=best.temperature, variety=best.variety)
    return Constrained(replace(chosen, provenance={**policy.provenance, "constrained": True}), tried)


@ray.remote(num_cpus=1)
def _try(score: ModelScore, policy: Policy, task: Task, temperature: float, varieties: Sequence[float]) -> list[Tried]:
    """Find the smallest of the ascending `varieties` with enough support by binary search; return all tried rules."""
    tried = []

    def is_vouched(variety: float) -> bool:
        level, support = score.rolled(policy.under(temperature=temperature, variety=variety), task)
        tried.append(Tried(temperature, variety, support, level))
        return support >= WANTED

    bisect_left(varieties, True, key=is_vouched)
    return tried
