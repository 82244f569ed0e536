"""The protocol of an estimator, and the inputs that all estimators share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import ray

from prefrec_ray.evaluation.estimators.fitted_q import Fitted, fit_all
from prefrec_ray.evaluation.estimators.importance_sampling import Weighed, start_weighing, weigh_all
from prefrec_ray.evaluation.estimators.logged_sessions import score_split
from prefrec_ray.evaluation.estimators.model import Modelled, fit_models, model_all
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.logged.sessions import LoggedSessions
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.results.served import Tally
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.settings import Task
from prefrec_ray.users.ensemble import Ensemble


class Estimator(Protocol):
    """Estimates the mean level under every subject of an evaluation."""

    @property
    def name(self) -> str:
        """Value of the setting `estimators`, and of the field `estimator` of records."""

    def scores(self, inputs: Inputs, task: Task) -> Scores | None:
        """Return the values of all users under the subjects of a task; None if the log does not allow an estimate.

        Raises `UserError` if no user has a level.
        """


@dataclass
class Inputs:
    """The inputs of an evaluation, and the results of its stages, each computed at its first use.

    `progress` shows the stages.
    """

    request: EvaluationRequest
    progress: Progress = silent

    @cached_property
    def logged(self) -> ray.ObjectRef | None:
        """Probabilities of the logged items, computed by a process in the background.

        None if no estimator uses them.
        """
        uses = {"model", "weights"} & set(self.request.settings.estimators)
        return start_weighing(self.request) if uses else None

    @cached_property
    def _split(self) -> tuple[LoggedSessions | None, dict[str, list[Tally]]]:
        return score_split(self.request, self.progress)

    @property
    def sessions(self) -> LoggedSessions:
        """Return the sessions of the split with the log weights of NCIS."""
        sessions = self._split[0]
        assert sessions is not None, "requested by `ncis` only"
        return sessions

    @property
    def tallies(self) -> dict[str, list[Tally]]:
        """Tallies of served items by subject, one per file."""
        return self._split[1]

    @cached_property
    def weighed(self) -> Mapping[str, Weighed]:
        """Importance weights by subject."""
        return {} if self.logged is None else weigh_all(self.request, self.logged, self.progress)

    @cached_property
    def ensemble(self) -> Ensemble:
        """Models of users, with their specification tests."""
        return fit_models(self.request, self.progress)

    @cached_property
    def modelled(self) -> dict[str, Modelled]:
        """Roll-outs in models of users by subject."""
        return model_all(self.request, self.ensemble, self.progress)

    @cached_property
    def fitted(self) -> Mapping[str, Mapping[str, Fitted]]:
        """Fitted networks by task and subject."""
        return fit_all(self.request, self.progress, self.logged)
