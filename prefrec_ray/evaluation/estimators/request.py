"""Inputs of an evaluation: policies, tasks, data set, settings and a behavior clone; the subjects that are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.results.names import (
    CONSTANT,
    IMITATION,
    RANDOM_ITEMS,
    Subject,
    check_names,
    shuffled,
    subject_of,
)
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.guard_rails import check_rails, guard_rails
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.settings import Task
from prefrec_ray.users.reading import read_histories


@dataclass(frozen=True)
class EvaluationRequest:
    """Inputs of every Ray task of an evaluation, stored once in the object store.

    `policies` have the scale of states of the data set (`adapted`). `clone` is `fit_clone(dataset, settings.seed)`.
    `trained_for` contains a policy's only task; other policies are scored on all `tasks`. `current`: the policy that
    serves now, if any, which the model of users compares with.
    """

    dataset: PreparedDataset
    policies: Mapping[str, Policy]
    tasks: Sequence[Task]
    clone: BehaviorClone
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)
    trained_for: Mapping[str, Task] = field(default_factory=dict)
    current: Policy | None = None

    def check(self) -> None:
        """Raise `UserError` for a policy with the name of a control, and for guard-rails on unknown feedback or kinds
        of items."""
        check_names(self.policies)
        check_rails(guard_rails(self.settings.guard_rails), self.dataset.state.feedback, self.clone.policy.items)

    @property
    def actors(self) -> dict[str, Policy]:
        """Return the subjects with actions of their own by name: the policies and behavior cloning."""
        return {**self.policies, IMITATION: self.clone.policy}

    @property
    def subjects(self) -> list[Subject]:
        """Return all subjects, in the order of the weights."""
        subjects = []
        for name, policy in self.policies.items():
            method = str(policy.provenance.get("method", name))
            subjects += [Subject(name, method, "policy"), Subject(shuffled(name), method, "placebo")]
        return [
            *subjects,
            Subject(IMITATION, IMITATION, "control"),
            Subject(shuffled(IMITATION), IMITATION, "placebo"),
            Subject(CONSTANT, CONSTANT, "placebo"),
            Subject(RANDOM_ITEMS, RANDOM_ITEMS, "placebo"),
        ]

    def columns(self, task: Task) -> list[int]:
        """Return the indices of the `subjects` that are scored on a task."""
        names = [subject_of(subject.name) for subject in self.subjects]
        return [i for i, name in enumerate(names) if self.trained_for.get(name, task) == task]

    def subjects_on(self, task: Task) -> list[Subject]:
        """Return the subjects that are scored on a task."""
        subjects = self.subjects
        return [subjects[i] for i in self.columns(task)]


@dataclass(frozen=True)
class EvaluationWork:
    """Common inputs of the estimators of one evaluation, with objects in Ray's object store, made at the first use."""

    request: EvaluationRequest
    progress: Progress

    @cached_property
    def stored(self) -> ray.ObjectRef:
        return ray.put(self.request)

    @cached_property
    def held(self) -> ray.ObjectRef:
        """Return a reference to the `Histories` of users of the split."""
        settings = self.request.settings
        return read_histories.remote(self.request.dataset.uri, settings.split, settings.seed)

    def chosen(self, *names: str) -> list[str]:
        """Return the estimators among `names` that the settings contain."""
        return [name for name in names if name in self.request.settings.estimators]


def adapted(policy: Policy, dataset: PreparedDataset, items: ItemTable, where: str) -> Policy:
    """Return the policy with the scale of states and the `items` of the data set, for a policy of the same platform.

    The policy is returned unchanged if both agree already. A log of another day has another mean and deviation of each
    column, and other items. Raises `UserError`, prefixed by `where`: another state definition, other embeddings than
    the data set's, or another scale of states for a policy that does not draw by Q from the whole catalogue.
    """
    own, theirs = policy.normaliser, dataset.normaliser
    if policy.state != dataset.state:
        raise UserError(f"{where}: found other states than in {dataset.uri}; expected the data set of the policy")
    scaled_alike = own.equals(theirs)
    # Logged items are identified by their rows, which must be equal.
    if scaled_alike and np.array_equal(policy.items.ids, items.ids):
        return policy
    if not scaled_alike and (policy.critic is None or policy.serving.candidates == "nearest"):
        raise UserError(
            f"{where}: found another scale of states than in {dataset.uri}; expected the data set of the policy, "
            "because it does not draw by Q from the whole catalogue"
        )
    if not items.same_embeddings(policy.items):
        raise UserError(
            f"{where}: found other item embeddings than in {dataset.uri}; expected the data set of the policy, or "
            "embeddings from a table (prepare.source: items), which do not change from log to log"
        )
    if policy.critic is None:
        return replace(policy, items=items)
    critic = policy.critic.for_items(policy.items, items)
    if scaled_alike:
        return replace(policy, items=items, critic=critic)
    return replace(policy, normaliser=theirs, items=items, critic=critic.rescaled(own.rescaling(theirs)))
