"""Tune's schedulers and searchers, from the settings."""

from __future__ import annotations

import logging
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
    asked = settings.scheduler
    if asked.name == "asha":
        return ASHAScheduler(
            grace_period=asked.grace_iterations, reduction_factor=asked.reduction_factor, max_t=_NO_END
        )
    if asked.name == "pbt":
        ranges = {key: _range(space) for key, space in settings.search.items()}
        return PopulationBasedTraining(
            perturbation_interval=asked.perturb_every, hyperparam_mutations={"trial": {"config": ranges}}
        )
    return FIFOScheduler()


def optuna_search(settings: TuneSettings) -> Any:
    """Optuna's TPE over `search`; a trial's number is Optuna's."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    return OptunaSearch(
        space=partial(suggest, settings), metric=settings.metric, mode=settings.mode, seed=settings.seeds[0]
    )


def suggest(settings: TuneSettings, asked: Any) -> dict[str, Any]:
    """The next trial, by Optuna's trial `asked`: method, recipe and the keys of that method."""
    method = settings.method[asked.suggest_categorical("method", range(len(settings.method)))]
    recipe = settings.recipe[asked.suggest_categorical("recipe", range(len(settings.recipe)))]
    config = {key: _suggest(space, key, asked) for key, space in spaces_of(settings, method).items()}
    return {"trial": trial(asked.number, method, recipe, settings.task[0], settings.seeds[0], config)}


def _suggest(space: Space, key: str, asked: Any) -> Any:
    name = f"search.{key}"
    if space.kind == "choice":
        # Numbers stand for the values: Optuna takes no lists.
        return space.values[asked.suggest_categorical(name, range(len(space.values)))]
    # A position in the range, which `draw` makes a value of.
    position = asked.suggest_float(name, 0.0, 1.0)
    return draw(space, lambda: position)


def _range(space: Space) -> Any:
    low, high, _ = space.bounds
    return tune.loguniform(low, high) if space.kind == "loguniform" else tune.uniform(low, high)
