"""Inputs of an evaluation: policies, tasks, data set, settings and a behavior clone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import IMITATION, Subject, check_names, subject_of
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.evaluation.subjects.clone import BehaviorClone
from prefrec_ray.evaluation.subjects.subjects import scored_subjects
from prefrec_ray.policy import Policy
from prefrec_ray.settings import Task


@dataclass(frozen=True)
class EvaluationRequest:
    """Inputs of every Ray task of an evaluation, stored once in the object store.

    `clone` is `fit_clone(dataset, settings.seed)`. `trained_for` contains a policy's only task; other policies are
    scored on all `tasks`.
    """

    dataset: PreparedDataset
    policies: Mapping[str, Policy]
    tasks: Sequence[Task]
    clone: BehaviorClone
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)
    trained_for: Mapping[str, Task] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `UserError` for a policy with the name of a control, and for states of another data set."""
        check_names(self.policies)
        for name, policy in self.policies.items():
            if policy.state != self.dataset.state or not policy.normaliser.equals(self.dataset.normaliser):
                raise UserError(
                    f"policy '{name}': found other states than in {self.dataset.uri}; expected the data set of the "
                    "policy"
                )

    @property
    def actors(self) -> dict[str, Policy]:
        """Return the subjects with actions of their own by name: the policies and behavior cloning."""
        return {**self.policies, IMITATION: self.clone.policy}

    @property
    def subjects(self) -> list[Subject]:
        """Return all subjects, in the order of the weights."""
        return scored_subjects(self.policies)

    def columns(self, task: Task) -> list[int]:
        """Return the indices of the `subjects` that are scored on a task."""
        names = [subject_of(subject.name) for subject in self.subjects]
        return [i for i, name in enumerate(names) if self.trained_for.get(name, task) == task]

    def subjects_on(self, task: Task) -> list[Subject]:
        """Return the subjects that are scored on a task."""
        subjects = self.subjects
        return [subjects[i] for i in self.columns(task)]
