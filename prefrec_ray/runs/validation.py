"""Scores on validation users, for runs and for the trials of a sweep; while they run it starts no tasks of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone, fit_clone
from prefrec_ray.evaluation.fitted import Question, fit_subject, task_steps
from prefrec_ray.evaluation.preference import learn_scores
from prefrec_ray.evaluation.records import task_records
from prefrec_ray.evaluation.scoring import Pass, score_file
from prefrec_ray.evaluation.sessions import Sessions
from prefrec_ray.evaluation.settings import FqeSettings, NcisSettings
from prefrec_ray.evaluation.subjects import scored_subjects
from prefrec_ray.evaluation.trajectories import read_trajectories
from prefrec_ray.policy import Policy
from prefrec_ray.runs.settings import ValidationSettings
from prefrec_ray.terms import TASKS

_SPLIT = "validation"
_NAME = "trial"
#: Requests of validation users (and of training users, for fitted-Q evaluation) that scores are learned from.
ROWS = 60_000


@dataclass(frozen=True)
class Judge:
    """Scores policies of one data set. The same clone, users and noise for all of them."""

    uri: str
    settings: ValidationSettings
    clone: BehaviourClone
    preference: Mapping[str, ray.ObjectRef]  # by task, a `PreferenceScore`
    histories: tuple[ray.ObjectRef, ray.ObjectRef] | None  # of training and validation users, for fitted-Q evaluation

    @classmethod
    def prepare(
        cls, uri: str, settings: ValidationSettings, tasks: Sequence[str], teachers: Sequence[str] | None = None
    ) -> Judge:
        """Fits the behaviour clone, learns what preferences (of `teachers`) say on `tasks`, loads histories.

        Raises `UserError`: roll-outs on logs that no simulator made, fitted-Q evaluation on histories too short for it,
        scores by preference without preferences.
        """
        dataset = PreparedDataset.open(uri)
        if settings.online and dataset.metadata.world is None:
            raise UserError(f"{uri}: validation.online rolls out in the simulator, which did not make these logs")
        histories, preference = None, {}
        if {"preference", "fqe"} & set(settings.estimators):
            held = read_trajectories.remote(uri, _SPLIT, 0, ROWS)
        if "preference" in settings.estimators:
            preference = learn_scores(uri, tasks, teachers, held)
        if "fqe" in settings.estimators:
            known = read_trajectories.remote(uri, "train", 0, ROWS)
            for data in ray.get([known, held]):
                for task in TASKS:
                    task_steps(data, task, dataset.metadata.mixture_weight)
            histories = known, held
        return cls(uri, settings, fit_clone(dataset, seed=0), preference, histories)

    @property
    def metric(self) -> str:
        """The score that the best checkpoint of a run has."""
        return self.settings.reported[0]

    def due(self, iteration: int, last: bool) -> bool:
        """Whether a trial is scored after this iteration."""
        return last or (self.settings.every is not None and iteration % self.settings.every == 0)

    def scores(self, policy: Policy, task: str) -> dict[str, float]:
        """The figures `settings.reported` of a policy."""
        dataset = PreparedDataset.open(self.uri)
        scores: dict[str, float] = {}
        if "preference" in self.settings.estimators:
            scores["validation/preference"] = ray.get(self.preference[task])(policy)
        if self.histories is not None:
            scores["validation/fqe"] = self._fqe(dataset, policy, task)
        if "ncis" in self.settings.estimators:
            scores |= self._ncis(dataset, policy, task)
        if self.settings.online:
            from prefrec_ray.simulator.online import true_level

            scores["validation/online"] = true_level(dataset, policy, task, _SPLIT, self.settings.users)
        return scores

    def _fqe(self, dataset: PreparedDataset, policy: Policy, task: str) -> float:
        assert self.histories is not None
        known, held = ray.get(list(self.histories))
        kernel = NcisSettings().sigma, NcisSettings().cap
        weight = dataset.metadata.mixture_weight
        asked = Question({_NAME: policy}, self.clone, weight, FqeSettings(networks=1), [kernel], seed=0)
        return float(fit_subject(known, held, asked, task, _NAME).fqe.mean())

    def _ncis(self, dataset: PreparedDataset, policy: Policy, task: str) -> dict[str, float]:
        found = Pass(self.uri, _SPLIT, {_NAME: policy}, self.clone, NcisSettings(), seed=0, served_rows=1)
        sessions = Sessions.concatenate([score_file(file, found)[0] for file in dataset.files("requests", _SPLIT)])
        level = task_levels(task, sessions.depth_level, sessions.frequency_level, dataset.metadata.mixture_weight)
        subjects = scored_subjects({_NAME: policy})
        records = task_records(sessions, np.asarray(level), subjects, NcisSettings().cap, seed=0)
        record = next(record for record in records if record["subject"] == _NAME)
        return {"validation/ncis": record["value"], "validation/ess": record["ess"]}
