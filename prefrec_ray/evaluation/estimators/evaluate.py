"""`evaluate`: the estimates of all estimators for the policies and controls of an evaluation.

An estimator is a function that returns `Scores` of the subjects on one task. Its docstring has the formula, the
settings and the reference.
"""

from __future__ import annotations

from dataclasses import replace

from prefrec_ray import plugins, runtime
from prefrec_ray.evaluation.estimators.fitted_q import fit_all, fitted_scores
from prefrec_ray.evaluation.estimators.importance_weights import (
    ITEM_WEIGHTS,
    start_weighing,
    weigh_all,
    weights_scores,
)
from prefrec_ray.evaluation.estimators.logged_sessions import score_split
from prefrec_ray.evaluation.estimators.model import model_scores, roll_out_all, served_in, start_models, supports
from prefrec_ray.evaluation.estimators.ncis import ncis_scores
from prefrec_ray.evaluation.estimators.rails import rail_records
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.records import Evaluation, GuardRailRecord, SpecificationRecord, Support
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.settings import ESTIMATORS
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.users.ensemble import Fits


def evaluate(request: EvaluationRequest, progress: Progress = silent, models: Fits | None = None) -> Evaluation:
    """Score every policy and control on its tasks with each estimator of the settings, and tally served items.

    `models`: models of users that were started before (`start_models`), if any. Raises `UserError`: errors of
    `EvaluationRequest.check`, a split without impressions, no user with a level.
    """
    request.check()
    runtime.start_ray()
    chosen, tasks = set(request.settings.estimators), request.tasks
    # Processes in the background, parallel to the pass over the split.
    if "model" in chosen and models is None:
        models = start_models(request.dataset, request.settings)
    logged = start_weighing(request) if chosen & {"model", *ITEM_WEIGHTS} else None
    sessions, served = score_split(request, progress)
    scores: list[Scores | None] = []
    support: dict[str, Support] = {}
    specification: list[SpecificationRecord] = []
    rails: dict[str, tuple[GuardRailRecord, ...]] = {}
    if models is not None:
        ensemble, rolled = roll_out_all(request, models, progress)
        scores += [model_scores(request, task, rolled) for task in tasks]
        rails = rail_records(request, rolled)
        served |= {name: served_in(served[name], request, rolled[name].imagined) for name in request.actors}
        specification = [
            SpecificationRecord(model=kind, r2=test.r2, largest_control=max(test.controls), feature=test.feature)
            for kind, test in zip(ensemble.kinds, ensemble.tests, strict=True)
        ]
    weighed = {} if logged is None else weigh_all(request, logged, progress)
    if models is not None:
        support = supports(request, rolled, weighed)
    for weights in ITEM_WEIGHTS:
        if weights in chosen:
            scores += [weights_scores(request, task, weighed, weights) for task in tasks]
    if sessions is not None:
        scores += [ncis_scores(request, task, sessions) for task in tasks]
    if chosen & {"fqe", "dr"}:
        fitted = fit_all(request, progress, logged)
        for estimator in ("fqe", "dr"):
            if estimator in chosen:
                scores += [fitted_scores(request, task, estimator, fitted[task]) for task in tasks]
    for name in request.settings.estimators:
        if name not in ESTIMATORS:
            estimate = plugins.load("estimators", name, "evaluate: key 'estimators'")
            scores += [replace(estimate(request, task), estimator=name) for task in tasks]
    with step(progress, "compute intervals"):
        records = tuple(record for one in scores if one is not None for record in one.records(request.settings.seed))
    return Evaluation(
        dataset=request.dataset.uri,
        split=request.settings.split,
        records=records,
        served=served,
        support=support,
        specification=tuple(specification),
        guard_rails=rails,
    )
