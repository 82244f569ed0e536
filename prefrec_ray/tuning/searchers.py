"""Tune's schedulers and searchers, from the settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from prefrec_ray.tuning.settings import Space, TuneSettings
from prefrec_ray.tuning.space import draw, spaces_of, trial

#: Beyond any trial's iterations: trials end by their own schedule.
_NO_END = 1_000_000


def scheduler(settings: TuneSettings) -> TrialScheduler:
    """The scheduler; metric and mode are Tune's own to give."""
    options = settings.scheduler
    if options.name == "asha":
        return ASHAScheduler(
            grace_period=options.grace_iterations, reduction_factor=options.reduction_factor, max_t=_NO_END
        )
    if options.name == "pbt":
        return BoundedPopulation(settings.search, options.perturb_every)
    return FIFOScheduler()


class BoundedPopulation(PopulationBasedTraining):
    """Population-based training in which values stay in their ranges and a trial stays itself.

    Ray's own counts seconds where nothing is said, multiplies a value by 0.8 or 1.2 wherever that leads, and gives the
    weak trial everything that the strong one is made by, its name and seed too.
    """

    def __init__(self, search: Mapping[str, Space], perturb_every: int) -> None:
        ranges = {key: _range(space) for key, space in search.items()}
        super().__init__(
            time_attr="training_iteration",
            perturbation_interval=perturb_every,
            hyperparam_mutations={"trial": {"config": ranges}},
        )
        self._bounds = {key: space.bounds[:2] for key, space in search.items()}

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        values = config["trial"]["config"]
        values |= {key: min(max(values[key], low), high) for key, (low, high) in self._bounds.items()}
        return {"trial": {**trial.config["trial"], "config": values}}, operations


def optuna_search(settings: TuneSettings) -> Any:
    """Optuna's TPE over `search`; a trial's number is Optuna's."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    return OptunaSearch(
        space=partial(suggest, settings), metric=settings.metric, mode=settings.mode, seed=settings.seeds[0]
    )


def suggest(settings: TuneSettings, drawn: Any) -> dict[str, Any]:
    """The next trial, by `drawn`, a trial of Optuna's: method, recipe and the keys of that method."""
    method = settings.method[drawn.suggest_categorical("method", range(len(settings.method)))]
    recipe = settings.recipe[drawn.suggest_categorical("recipe", range(len(settings.recipe)))]
    config = {key: _suggest(space, key, drawn) for key, space in spaces_of(settings, method).items()}
    return {"trial": trial(drawn.number, method, recipe, settings.task[0], settings.seeds[0], config)}


def _suggest(space: Space, key: str, drawn: Any) -> Any:
    name = f"search.{key}"
    if space.kind == "choice":
        # Numbers stand for the values: Optuna takes no lists.
        return space.values[drawn.suggest_categorical(name, range(len(space.values)))]
    # A position in the range, which `draw` makes a value of.
    position = drawn.suggest_float(name, 0.0, 1.0)
    return draw(space, lambda: position)


def _range(space: Space) -> Any:
    low, high, _ = space.bounds
    return tune.loguniform(low, high) if space.kind == "loguniform" else tune.uniform(low, high)
