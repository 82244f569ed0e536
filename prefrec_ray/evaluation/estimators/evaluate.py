"""`evaluate`: the estimates of all estimators for the policies and controls of an evaluation."""

from __future__ import annotations

from typing import ClassVar, Literal

from prefrec_ray import runtime
from prefrec_ray.evaluation.estimators.estimator import Estimator, Inputs
from prefrec_ray.evaluation.estimators.model import model_scores, supports
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.session_means import NCIS, ImportanceSampling
from prefrec_ray.evaluation.estimators.value_networks import DoublyRobust, FittedQ
from prefrec_ray.evaluation.results.records import Evaluation, SpecificationRecord, Support
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.results.served import in_roll_out, summarise
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.settings import Task


class ModelOfUsers:
    """Roll-outs in models of users, which are fitted on the log (model.py). Verdicts use this estimator first.

    The value of a user is the mean level of simulated sessions, averaged over models. Only subjects with support by the
    log have an estimate. Settings: `model` (models, users, requests).
    """

    name: ClassVar[Literal["model"]] = "model"

    def scores(self, inputs: Inputs, task: Task) -> Scores:
        """Return the values of the task's subjects with support."""
        return model_scores(inputs.request, task, inputs.modelled)


ESTIMATORS: tuple[Estimator, ...] = (ModelOfUsers(), ImportanceSampling(), NCIS(), FittedQ(), DoublyRobust())


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluation:
    """Score every policy and control on its tasks with each estimator of the settings, and tally served items.

    Raises `UserError`: errors of `EvaluationRequest.check`, a split without impressions, no user with a level.
    """
    request.check()
    runtime.start_ray()
    inputs = Inputs(request, progress)
    inputs.logged  # noqa: B018  starts a process that runs parallel to the pass over the split
    served = {name: summarise(parts) for name, parts in inputs.tallies.items()}
    chosen = [estimator for estimator in ESTIMATORS if estimator.name in request.settings.estimators]
    scores = [estimator.scores(inputs, task) for estimator in chosen for task in request.tasks]
    support: dict[str, Support] = {}
    specification: list[SpecificationRecord] = []
    if "model" in request.settings.estimators:
        ids, rolled = request.dataset.items().ids, inputs.modelled
        shown = {name: rolled[name].imagined for name in request.actors}
        served |= {name: in_roll_out(served[name], ids, one.counts, one.ceiling) for name, one in shown.items()}
        specification = [
            SpecificationRecord(model=kind, r2=test.r2, largest_control=max(test.controls), feature=test.feature)
            for kind, test in zip(inputs.ensemble.kinds, inputs.ensemble.tests, strict=True)
        ]
        support = supports(request, rolled, {name: one.effective for name, one in inputs.weighed.items()})
    with step(progress, "compute intervals"):
        records = tuple(record for one in scores if one is not None for record in one.records(request.settings.seed))
    return Evaluation(
        dataset=request.dataset.uri,
        split=request.settings.split,
        records=records,
        served=served,
        support=support,
        specification=tuple(specification),
    )
