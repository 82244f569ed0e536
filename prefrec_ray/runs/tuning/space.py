"""The trials of a sweep: the product of its grids, random samples, and trials that Optuna suggests.

A trial is a mapping `{"name", "method", "recipe", "task", "seed", "config"}`; `config` contains the values of `search`.
Grids and samples depend only on the settings.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from prefrec_ray.algorithms import find_settings
from prefrec_ray.algorithms.requests import OF_DATA
from prefrec_ray.algorithms.settings import reward_settings
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.tuning.settings import Space, TuneSettings

Trial = dict[str, Any]


def trials(settings: TuneSettings) -> list[Trial]:
    """Return all trials of a sweep without a searcher, by number; seeds of the same settings are adjacent.

    Draw i of a key is the same for every method and task, and does not depend on other keys.
    """
    listed: list[Trial] = []
    for task, recipe, method in product(settings.task, settings.recipe, settings.method):
        spaces = settings.spaces_of(method)
        grids = {key: space.values for key, space in spaces.items() if space.kind == "grid"}
        drawn = {key: space for key, space in spaces.items() if space.kind != "grid"}
        for values in product(*grids.values()):
            for number in range(settings.num_samples if drawn else 1):
                config = {key: draw(space, _random(key, number)) for key, space in drawn.items()}
                config = {key: (dict(zip(grids, values, strict=True)) | config)[key] for key in spaces}
                for seed in settings.seeds:
                    listed.append(trial(len(listed), method, recipe, task, seed, config))
    return listed


def corners(settings: TuneSettings) -> list[Trial]:
    """Return trials that together need all data and rewards that the trials of a searcher can need."""
    listed: list[Trial] = []
    for task, recipe, method, seed in product(settings.task, settings.recipe, settings.method, settings.seeds):
        spaces = settings.spaces_of(method)
        lowest = {key: draw(space, lambda: 0.0) for key, space in spaces.items()}
        shaping = (*reward_settings(find_settings(method)), *OF_DATA)
        choices = {key: space.values for key, space in spaces.items() if key in shaping and space.values}
        for values in product(*choices.values()):
            config = {**lowest, **dict(zip(choices, values, strict=True))}
            listed.append(trial(len(listed), method, recipe, task, seed, config))
    return listed


def draws_reward(settings: TuneSettings) -> bool:
    """Return whether pre-training depends on a value drawn from a range, so that trials cannot share rewards."""
    shaping = reward_settings(find_settings(settings.method[0]))
    return any(key in shaping and not space.values for key, space in settings.search.items())


def trial(number: int, method: str, recipe: str, task: str, seed: int, config: dict[str, Any]) -> Trial:
    """Return a trial with its name."""
    name = f"{method.rpartition(':')[2]}_{task}_{seed}_{number:03d}"
    return {"name": name, "method": method, "recipe": recipe, "task": task, "seed": seed, "config": config}


def draw(space: Space, random: Callable[[], float]) -> Any:
    """Return a value drawn from a space other than a grid; `random` returns numbers in [0, 1)."""
    if space.kind == "choice":
        return space.values[int(random() * len(space.values))]
    low, high = space.bounds
    if space.kind == "loguniform":
        return math.exp(math.log(low) + random() * (math.log(high) - math.log(low)))
    return low + random() * (high - low)


def train_settings(settings: TuneSettings, chosen: Trial) -> TrainSettings:
    """Return the settings with which `prefrec train` would run this trial."""
    return TrainSettings(
        method=chosen["method"],
        recipe=chosen["recipe"],
        task=chosen["task"],
        seed=chosen["seed"],
        checkpoint_every=settings.checkpoint_every,
        keep_checkpoints=settings.keep_checkpoints,
        config={**settings.base, **chosen["config"]},
    )


def _random(key: str, number: int) -> Callable[[], float]:
    return np.random.default_rng((zlib.crc32(key.encode()), number)).random


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
    config = {key: _suggest(space, key, optuna_trial) for key, space in settings.spaces_of(method).items()}
    return {"trial": trial(optuna_trial.number, method, recipe, settings.task[0], settings.seeds[0], config)}


def _suggest(space: Space, key: str, optuna_trial: Any) -> Any:
    name = f"search.{key}"
    if space.kind == "choice":
        # Numbers stand for the values: Optuna takes no lists.
        return space.values[optuna_trial.suggest_categorical(name, range(len(space.values)))]
    # A position in the range, which `draw` converts to a value.
    position = optuna_trial.suggest_float(name, 0.0, 1.0)
    return draw(space, lambda: position)
