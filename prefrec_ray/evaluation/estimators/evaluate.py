"""`evaluate`: the estimates of all estimators for the policies and controls of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from prefrec_ray import plugins, runtime
from prefrec_ray.evaluation.estimators.fitted_q import FittedQ
from prefrec_ray.evaluation.estimators.importance_weights import ItemWeights
from prefrec_ray.evaluation.estimators.logged_sessions import score_split
from prefrec_ray.evaluation.estimators.model import UserModels
from prefrec_ray.evaluation.estimators.ncis import Ncis, ScoredSplit
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.scores import Findings, Scores
from prefrec_ray.evaluation.settings import ESTIMATORS
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.users.ensemble import Fits


class Estimator(Protocol):
    """One estimator of an evaluation, or several with common work. Its docstring has formula, settings and reference.

    `names`: chosen keys of `evaluate.estimators`, in the order of the records. Without one it is not used.
    """

    names: list[str]

    def start(self) -> None:
        """Start work in background processes, parallel to the pass over the split."""

    def finish(self, split: ScoredSplit) -> Findings:
        """Return scores by estimator and task. Raises `UserError` for logs without a level, for example."""


class PlugIns:
    """Estimators of other packages, and of users (`module:function`): functions of request and task."""

    def __init__(self, work: EvaluationWork) -> None:
        self.request = work.request
        self.names = [name for name in work.request.settings.estimators if name not in ESTIMATORS]
        self.functions: dict[str, Callable[[EvaluationRequest, str], Scores]] = {}

    def start(self) -> None:
        """Import the functions. Raises `UserError` like `plugins.load`."""
        where = "evaluate: key 'estimators'"
        self.functions = {name: plugins.load("estimators", name, where) for name in self.names}

    def finish(self, split: ScoredSplit) -> Findings:
        return Findings(
            [
                replace(function(self.request, task), estimator=name)
                for name, function in self.functions.items()
                for task in self.request.tasks
            ]
        )


def evaluate(request: EvaluationRequest, progress: Progress = silent, models: Fits | None = None) -> Evaluation:
    """Score every policy and control on its tasks with each estimator of the settings, and tally served items.

    `models`: models of users that were started before (`start_models`), if any. Raises `UserError`: errors of
    `EvaluationRequest.check` and the estimators, a split without impressions, no user with a level.
    """
    request.check()
    runtime.start_ray()
    work = EvaluationWork(request, progress)
    weights = ItemWeights(work)
    every: list[Estimator] = [
        UserModels(work, weights, models),
        weights,
        Ncis(work),
        FittedQ(work, weights),
        PlugIns(work),
    ]
    chosen = [one for one in every if one.names]
    for estimator in chosen:
        estimator.start()
    split = score_split(work)
    fields: dict[str, Any] = {"served": split.served, "support": {}, "specification": (), "guard_rails": {}}
    scores: list[Scores] = []
    for estimator in chosen:
        found = estimator.finish(split)
        scores += found.scores
        fields |= found.fields
    with step(progress, "compute intervals"):
        records = tuple(record for one in scores for record in one.records(request.settings.seed))
    fields |= {"split": request.settings.split, "difference": request.settings.difference}
    return Evaluation(dataset=request.dataset.uri, records=records, **fields)
