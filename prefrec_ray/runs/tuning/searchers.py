"""Tune's scheduler and searcher for the settings of a sweep."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from prefrec_ray.runs.tuning.settings import Space, TuneSettings
from prefrec_ray.runs.tuning.space import draw, spaces_of, trial

#: More iterations than any trial has, because trials end by their own schedule.
_NO_END = 1_000_000


def scheduler(settings: TuneSettings) -> TrialScheduler:
    """Return the scheduler; Tune sets its metric and mode."""
    options = settings.scheduler
    if options.name == "asha":
        return ASHAScheduler(
            grace_period=options.grace_iterations, reduction_factor=options.reduction_factor, max_t=_NO_END
        )
    if options.name == "pbt":
        return BoundedPopulation(settings.search, options.perturb_every)
    return FIFOScheduler()


class BoundedPopulation(PopulationBasedTraining):
    """Population-based training in which values stay in their ranges, and a trial keeps its name and seed.

    Ray's own class counts seconds by default, multiplies values by 0.8 or 1.2 without bounds, and copies the whole
    config of the better trial, with its name and seed.
    """

    def __init__(self, search: Mapping[str, Space], perturb_every: int) -> None:
        ranges = {key: _range(space) for key, space in search.items()}
        super().__init__(
            time_attr="training_iteration",
            perturbation_interval=perturb_every,
            hyperparam_mutations={"trial": {"config": ranges}},
        )
        self._bounds = {key: space.bounds[:2] for key, space in search.items()}
        self._reports = 0
        self._last_report: dict[str, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Call Ray's method, and record the order of the reports."""
        self._reports += 1
        self._last_report[trial.trial_id] = self._reports
        return str(super().on_trial_result(tune_controller, trial, result))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the waiting trial whose last report is the oldest.

        Ray takes the trial with the fewest iterations. If trials take turns, a trial that copies another's weights and
        iterations could be run, compared and reset forever.
        """
        waiting = [trial for trial in tune_controller.get_trials() if trial.status in ("PENDING", "PAUSED")]
        return min(waiting, key=lambda trial: self._last_report.get(trial.trial_id, 0), default=None)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        values = config["trial"]["config"]
        values |= {key: min(max(values[key], low), high) for key, (low, high) in self._bounds.items()}
        return {"trial": {**trial.config["trial"], "config": values}}, operations


def optuna_search(settings: TuneSettings) -> Any:
    """Return Optuna's TPE sampler over `search`; trials have Optuna's numbers."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    return OptunaSearch(
        space=partial(suggest, settings), metric=settings.metric, mode=settings.mode, seed=settings.seeds[0]
    )


def suggest(settings: TuneSettings, optuna_trial: Any) -> dict[str, Any]:
    """Return the next trial, with the method, recipe and values that Optuna's `optuna_trial` suggests."""
    method = settings.method[optuna_trial.suggest_categorical("method", range(len(settings.method)))]
    recipe = settings.recipe[optuna_trial.suggest_categorical("recipe", range(len(settings.recipe)))]
    config = {key: _suggest(space, key, optuna_trial) for key, space in spaces_of(settings, method).items()}
    return {"trial": trial(optuna_trial.number, method, recipe, settings.task[0], settings.seeds[0], config)}


def _suggest(space: Space, key: str, optuna_trial: Any) -> Any:
    name = f"search.{key}"
    if space.kind == "choice":
        # Numbers stand for the values: Optuna takes no lists.
        return space.values[optuna_trial.suggest_categorical(name, range(len(space.values)))]
    # A position in the range, which `draw` converts to a value.
    position = optuna_trial.suggest_float(name, 0.0, 1.0)
    return draw(space, lambda: position)


def _range(space: Space) -> Any:
    low, high, _ = space.bounds
    return tune.loguniform(low, high) if space.kind == "loguniform" else tune.uniform(low, high)
