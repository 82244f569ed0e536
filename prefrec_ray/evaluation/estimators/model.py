"""The estimator `model`: levels in models of users, with the support, served items and guard-rails of policies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.importance_weights import ItemWeights
from prefrec_ray.evaluation.estimators.logged_sessions import top_items
from prefrec_ray.evaluation.estimators.ncis import ScoredSplit
from prefrec_ray.evaluation.estimators.rails import rail_records
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.estimators.subject_roll_outs import Modelled, roll_out_all
from prefrec_ray.evaluation.results.names import CURRENT, LOGGING_POLICY, Subject
from prefrec_ray.evaluation.results.records import ServedItems, SpecificationRecord, Support
from prefrec_ray.evaluation.results.scores import Findings, Scores, Z, bootstrap_interval, disagreement, widened
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.settings import Task
from prefrec_ray.users.checks import backtest_error
from prefrec_ray.users.ensemble import Ensemble, Fits, start_fits
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import check_long_enough, read_histories
from prefrec_ray.users.roll_out import Imagined

#: One of this many users of the split is simulated; models are fitted to the others.
_SIMULATED = 3


def start_models(dataset: PreparedDataset, settings: EvaluateSettings) -> Fits:
    """Start to fit and test the models of users of an evaluation. Raises `UserError` if histories are too short.

    Models are fitted to users of the split, from whom neither the policy nor the choice of its serving rule learned.
    They would repeat the sampling errors of these users, and confirm gains that only these users had. Users who are
    simulated are in no part of a fit, and the models are tested with them.
    """
    check_long_enough(dataset, [settings.split])
    histories = read_histories.remote(dataset.uri, settings.split, settings.seed)
    fitted, simulated = _divided.remote(histories, settings.model.users, settings.seed)
    return start_fits(dataset.uri, fitted, settings.seed, settings.model.models, simulated)


@ray.remote(num_cpus=1, num_returns=2)
def _divided(data: Histories, count: int, seed: int) -> tuple[Histories, Histories]:
    """Return the histories of the users for fits, and of `count` users (at most a third) for simulations.

    A single user is in both.
    """
    users = np.random.default_rng(seed).permutation(len(data.starts))
    count = min(count, max(1, len(users) // _SIMULATED))
    return data.take(np.sort(users[count:] if len(users) > 1 else users)), data.take(np.sort(users[:count]))


class UserModels:
    """The estimator `model`. Verdicts use it first.

    The value of a user is the mean level of simulated sessions, averaged over models. Intervals contain the
    disagreement of models of different kinds, and the errors that back-tests and specification tests find. Users
    without a level under any subject are excluded. Settings: `model` (models, users, requests).
    """

    def __init__(self, work: EvaluationWork, weights: ItemWeights, fits: Fits | None) -> None:
        self.work, self.weights, self.fits = work, weights, fits
        self.names = work.chosen("model")

    def start(self) -> None:
        """Start to fit the models, unless they were started before, and to weigh impressions for the support."""
        if self.fits is None:
            self.fits = start_models(self.work.request.dataset, self.work.request.settings)
        self.weights.start()

    def finish(self, split: ScoredSplit) -> Findings:
        """Return the scores of all tasks, specification tests, guard-rails, served items and support."""
        assert self.fits is not None
        request, ensemble = self.work.request, self.fits.ensemble(self.work.progress)
        rolled = roll_out_all(self.work, ensemble, self.fits.held)
        scores = [model_scores(request, task, rolled) for task in request.tasks]
        ids = request.clone.policy.items.ids
        own = {name: _served(split.served[name], ids, rolled[name].imagined) for name in request.actors}
        fields = {
            "specification": _specification(ensemble),
            "guard_rails": rail_records(request, rolled),
            "served": {**split.served, **own},
            "support": {name: self._support(name, rolled[name]) for name in request.policies},
        }
        return Findings(scores, fields)

    def _support(self, name: str, rolled: Modelled) -> Support:
        """Return the support of a policy, with its effective sample sizes if it has weights."""
        found: dict[str, Any] = {"ess": None, "ess_users": None}
        if (weighed := self.weights.weighed.get(name)) is not None:
            found = {"ess": weighed.ess["weights"], "ess_users": weighed.ess_users}
            found |= {"pages": weighed.pages} if weighed.pages else {}
        return Support(states=rolled.within, composition=rolled.composition, **found)


def model_scores(request: EvaluationRequest, task: Task, modelled: Mapping[str, Modelled]) -> Scores:
    """Return the scores of one task.

    Raises `UserError` if no user has a level under every subject, in one of the models, or in the log.
    """
    settings = request.settings
    rolled = [s for s in request.subjects_on(task) if s.name in modelled]
    subjects = [Subject(LOGGING_POLICY, LOGGING_POLICY, "control"), *rolled]
    if request.current is not None:
        subjects.append(Subject(CURRENT, str(request.current.provenance.get("method", CURRENT)), "control"))
    imagined = [modelled[subject.name].imagined for subject in subjects]
    levels = np.stack([one.levels[task] for one in imagined], axis=2)  # [K, n, L]
    values = np.ma.masked_invalid(levels).mean(axis=0).filled(np.nan)  # [n, L], mean over models with a level
    known = np.isfinite(values).all(axis=1)
    if np.isnan(levels[:, known]).all(axis=1).any():  # no user has a level in at least one model
        least = subjects[np.isfinite(levels).sum(axis=1).min(axis=0).argmin()].name
        raise UserError(
            f"evaluation: no user of the model has a level on the task '{task}' under every policy and control (fewest "
            f"under '{least}'); expected more model.users or model.requests, or other estimators"
        )
    logged = modelled[LOGGING_POLICY].logged[task]
    if np.isnan(logged).all():
        raise UserError(
            f"evaluation: no user of the model has a level on the task '{task}' in the first "
            f"{settings.model.requests} impressions of the log; expected more model.requests, or other estimators"
        )
    by_model = np.nanmean(levels[:, known], axis=1)  # [K, L]
    gains = by_model - by_model[:, :1]
    tested = [0.0]  # the logging policy's error
    of_log = modelled[LOGGING_POLICY]
    missed = of_log.logged_parts[task] - np.ma.masked_invalid(imagined[0].parts[task]).mean(axis=0).filled(np.nan)
    for subject in subjects[1:]:
        tested.append(backtest_error(missed, of_log.histories, modelled[subject.name].histories))
    found = _specification_error([modelled[subject.name].corrected[task] for subject in subjects], known, gains)
    sizes = np.abs(gains.mean(axis=0))
    halves = np.hypot(Z * np.array(tested), found)
    errors = np.divide(halves, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return Scores(
        task=task,
        estimator="model",
        subjects=subjects,
        values=values[known],
        logging=values[known, 0],
        ess=None,
        counts={"users": int(known.sum()), "users_left_out": int((~known).sum())},
        settings={
            **settings.model.model_dump(),
            "logged_level": float(np.nanmean(logged)),
            "split": settings.split,
            "seed": settings.seed,
        },
        networks=(by_model, by_model[:, :1]),
        of_kinds=True,
        own=[
            {
                **_own_units(one, imagined[0], settings.seed, error),
                "gains_by_model": tuple(map(float, of_models)),
                "settings": {
                    "relative_error": float(error),
                    "backtest_error": of_backtest,
                    "specification_error": float(of_test),
                },
            }
            for one, error, of_backtest, of_test, of_models in zip(
                imagined, errors, tested, found, gains.T, strict=True
            )
        ],
        relative_error=errors,
        current=len(subjects) - 1 if request.current is not None else None,
    )


def _specification_error(corrected: Sequence[np.ndarray], known: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return how much the errors that specification tests found change gains in models [K, L], on average, [L].

    `corrected`: levels [K, n] of each subject in the corrected models, of the users `known`.
    """
    levels = np.nanmean(np.stack(corrected, axis=2)[:, known], axis=1)
    return np.abs(levels - levels[:, :1] - gains).mean(axis=0)


def _specification(ensemble: Ensemble) -> tuple[SpecificationRecord, ...]:
    return tuple(
        SpecificationRecord(model=kind, r2=test.r2, largest_control=max(test.controls), feature=test.feature)
        for kind, test in zip(ensemble.kinds, ensemble.tests, strict=True)
    )


def _served(served: ServedItems, ids: np.ndarray, imagined: Imagined) -> ServedItems:
    """Return `served` with the items of a roll-out.

    A roll-out excludes items that rest, as a server does. If they rest for ever, an item reaches each user at most
    once, however high its score is.
    """
    shown = np.flatnonzero(imagined.counts)
    items = Counter(dict(zip(ids[shown].tolist(), imagined.counts[shown].tolist(), strict=True)))
    return served.model_copy(update={**top_items(items), "counted": "roll-out", "ceiling": imagined.ceiling})


def _own_units(one: Imagined, logging: Imagined, seed: int, error: float) -> dict[str, Any]:
    """Return the fields of a subject's record in the users' own units; no time to the next session if no user returns.

    The 95 % intervals contain the same errors as those of levels. `error`: that of the model, as a share of a gain; at
    most the whole change counts.
    """
    fields: dict[str, Any] = {"sessions": one.sessions}
    # The last number is a bound of the mean: no session is shorter, and no user comes back earlier.
    measures = {
        "mean_depth": (one.depth, logging.depth, 1.0),
        "mean_revisit_hours": (one.revisit_hours, logging.revisit_hours, 0.0),
    }
    for name, (values, logged, least) in measures.items():
        if np.isfinite(values).any():
            users, models = (np.ma.masked_invalid(values).mean(axis=axis).compressed() for axis in (0, 1))
            low, high = widened(*bootstrap_interval(users, seed), models)
            mean = float(np.nanmean(values))
            changes = np.ma.masked_invalid(values).mean(axis=1) - np.ma.masked_invalid(logged).mean(axis=1)
            of_models = math.hypot(float(disagreement(changes.compressed())), min(error, 1.0) * float(changes.mean()))
            bounds = max(least, mean - math.hypot(mean - low, of_models)), mean + math.hypot(high - mean, of_models)
            fields |= {name: mean, f"{name}_ci": bounds}
    return fields
