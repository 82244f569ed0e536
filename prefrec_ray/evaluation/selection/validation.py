"""Scores on validation users, for runs and for the trials of a sweep. Scoring starts no Ray tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError, unwrapped_errors
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone
from prefrec_ray.evaluation.estimators.fitted_q import fit_subject, task_steps
from prefrec_ray.evaluation.estimators.logged_sessions import score_file
from prefrec_ray.evaluation.estimators.ncis import LoggedSessions, ncis_scores
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.online import RollOut, true_level
from prefrec_ray.evaluation.selection.model_score import fit_score
from prefrec_ray.evaluation.selection.preference import learn_scores
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings, ValidationSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.settings import Task
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import read_histories

_SPLIT: Literal["validation"] = "validation"
_NAME = "trial"
#: Impressions of validation users (and of training users, for fitted-Q evaluation) for the scores.
ROWS = 60_000


@dataclass(frozen=True)
class ValidationScorer:
    """Scores policies of one data set, all with the same clone, users and noise."""

    uri: str
    settings: ValidationSettings
    clone: BehaviorClone | None  # for NCIS and fitted-Q evaluation
    preference: Mapping[str, ray.ObjectRef]  # a `PreferenceScore` by task
    histories: tuple[ray.ObjectRef, ray.ObjectRef] | None  # of training and validation users, for fitted-Q evaluation
    model: ray.ObjectRef | None = None  # a `ModelScore`

    @classmethod
    def prepare(
        cls,
        uri: str,
        settings: ValidationSettings,
        tasks: Sequence[str],
        teachers: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> ValidationScorer:
        """Fit the behavior clone, fit scores by the preferences of `teachers` on `tasks`, and load histories.

        Raises `UserError`: roll-outs for logs that are not simulated, fitted-Q evaluation with histories too short for
        one of `tasks`, scores by preference without preferences.
        """
        dataset = PreparedDataset.open(uri)
        if settings.online and dataset.metadata.world is None:
            raise UserError(f"{uri}: validation.online rolls out in the simulator, which did not make these logs")
        histories, preference = None, {}
        if {"preference", "fqe"} & set(settings.estimators):
            held = read_histories.remote(uri, _SPLIT, 0, ROWS)
        if "preference" in settings.estimators:
            preference = learn_scores(uri, tasks, teachers, held)
        if "fqe" in settings.estimators:
            training = read_histories.remote(uri, "train", 0, ROWS)
            with unwrapped_errors():
                ray.get(_check_steps.remote(training, held, tasks, dataset.metadata.mixture_weight))
            histories = training, held
        clone = fit_clone(dataset, seed=0) if {"ncis", "fqe"} & set(settings.estimators) else None
        model = None
        if "model" in settings.estimators:
            fit = fit_score(uri, _SPLIT)
            fit.wait(progress, "fit models of users: steps")  # later, trials of a sweep reserve the processors
            model = fit.score
        return cls(uri, settings, clone, preference, histories, model)

    @property
    def metric(self) -> str:
        """Return the score that selects the best checkpoint of a run."""
        return self.settings.reported[0]

    def due(self, iteration: int, last: bool) -> bool:
        """Return whether a policy is scored after this iteration."""
        return self.settings.due(iteration, last)

    def scores(self, policy: Policy, task: Task) -> dict[str, float]:
        """Return the scores `settings.reported` of a policy."""
        dataset = PreparedDataset.open(self.uri)
        scores: dict[str, float] = {}
        if self.model is not None:
            scores["validation/model"] = ray.get(self.model).rolled(policy, task).level
        if "preference" in self.settings.estimators:
            scores["validation/preference"] = ray.get(self.preference[task])(policy)
        if self.histories is not None:
            scores["validation/fqe"] = self._fqe(self._request(dataset, policy, task), task)
        if "ncis" in self.settings.estimators:
            scores |= self._ncis(self._request(dataset, policy, task), task)
        if self.settings.online:
            how = RollOut(_SPLIT, self.settings.users)
            scores["validation/online"] = true_level(dataset, policy, task, how)
        return scores

    def _request(self, dataset: PreparedDataset, policy: Policy, task: Task) -> EvaluationRequest:
        assert self.clone is not None
        settings = EvaluateSettings(split=_SPLIT, ncis=self.settings.ncis, fqe=FqeSettings(networks=1))
        return EvaluationRequest(dataset, {_NAME: policy}, [task], self.clone, settings)

    def _fqe(self, request: EvaluationRequest, task: Task) -> float:
        assert self.histories is not None
        training, held = ray.get(list(self.histories))
        return float(fit_subject(training, held, request, task, _NAME).fqe.mean())

    def _ncis(self, request: EvaluationRequest, task: Task) -> dict[str, float]:
        files = request.dataset.files("requests", _SPLIT)
        sessions = LoggedSessions.concatenate([score_file(file, request, served_rows=1)[0] for file in files])
        scores = ncis_scores(request, task, sessions)
        assert scores.ess is not None
        column = [subject.name for subject in scores.subjects].index(_NAME)
        value, ess = scores.values.mean(axis=0)[column], scores.ess[column]
        return {"validation/ncis": float(value), "validation/ess": float(ess)}


@ray.remote(num_cpus=1)
def _check_steps(training: Histories, held: Histories, tasks: Sequence[str], mixture_weight: float) -> None:
    """Raise `UserError` for a task without steps in `training` or `held`."""
    for data in (training, held):
        for task in tasks:
            task_steps(data, task, mixture_weight)
