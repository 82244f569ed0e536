"""The section `train` of a YAML file, and how it becomes an RLlib config."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from pydantic import Field

from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, nearest
from prefrec_ray.terms import Recipe, Task

#: Keys of RLlib's own that a YAML may set, beside those of the methods' `training`.
RLLIB_KEYS = (
    "gamma",
    "train_batch_size_per_learner",
    "num_learners",
    "num_cpus_per_learner",
    "num_gpus_per_learner",
    "custom_resources_per_learner",
)


class ValidationSettings(Settings):
    """Scores policies on validation users as trials go: by estimators, and by true levels in the simulator.

    `every`: iterations between scores (the last iteration always has one); null: at the end only. `estimators`: the
    first is what a run's best checkpoint is chosen by.
    """

    every: int | None = Field(default=None, ge=1)
    estimators: tuple[Literal["preference", "fqe", "ncis"], ...] = Field(default=("preference", "ncis"), min_length=1)
    online: bool = False
    users: int = Field(default=200, ge=2, description="of the roll-outs")

    @property
    def reported(self) -> tuple[str, ...]:
        """The columns that it adds to a run's rows, the decisive one first."""
        ess = ("validation/ess",) if "ncis" in self.estimators else ()
        online = ("validation/online",) if self.online else ()
        return (*(f"validation/{name}" for name in self.estimators), *ess, *online)


class TrainSettings(Settings):
    """Section `train`: what to train, on which data set, and any key of the method's config."""

    method: str = "PrefRec"
    recipe: Recipe = "robust"
    task: Task = "frequency"
    dataset: str | None = None
    seed: int = 0
    checkpoint_every: int = Field(default=4, ge=1, description="iterations between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1)
    validation: ValidationSettings | None = None
    config: dict[str, Any] = Field(default_factory=dict)


def build_config(settings: TrainSettings, dataset: str, where: str = "train") -> OfflineConfig:
    """The RLlib config of `settings` on the data set at `dataset`.

    Raises `UserError` for an unknown method or key, or a value of the wrong type; `where` opens its line.
    """
    if settings.method not in METHODS:
        raise UserError(
            f"{where}: key 'method': unknown method '{settings.method}'; {nearest(settings.method, list(METHODS))}"
        )
    config: OfflineConfig = METHODS[settings.method].get_default_config()
    config.training(recipe=settings.recipe, task=settings.task)
    config.debugging(seed=settings.seed)
    config.offline_data(input_=dataset)
    config.update_from_dict(check_keys(settings.config, config, f"{where}: key 'config."))
    return config


def check_keys(values: dict[str, Any], config: OfflineConfig, where: str) -> dict[str, Any]:
    """`values` with numbers as numbers; `UserError` for a key that the method does not know, or a wrong type."""
    parameters = training_parameters(type(config))
    valid = sorted({*parameters, *RLLIB_KEYS} - {"recipe", "task"})
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in valid:
            raise UserError(f"{where}{key}': unknown key; {nearest(key, valid)}")
        default = getattr(config, key)
        if value is None and key in parameters and "None" in str(parameters[key].annotation):
            checked[key] = None
        elif default == "auto" and key in RLLIB_KEYS:
            checked[key] = _number_or_auto(value, f"{where}{key}'")
        else:
            checked[key] = _checked(value, default, f"{where}{key}'")
    return checked


def training_parameters(config: type) -> dict[str, inspect.Parameter]:
    """The keyword arguments of `training` in a method's config and in `OfflineConfig`."""
    found: dict[str, inspect.Parameter] = {}
    for cls in inspect.getmro(config):
        if issubclass(cls, OfflineConfig) and "training" in vars(cls):
            parameters = inspect.signature(vars(cls)["training"]).parameters.values()
            found |= {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return found


def _checked(value: Any, default: Any, where: str) -> Any:
    if isinstance(default, bool):
        expected, good = "true or false", isinstance(value, bool)
    elif isinstance(default, int | float) or default is None:
        # YAML 1.1 reads 3e-4 as a text.
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise UserError(f"{where}: expected a number, found '{value}'") from None
        expected, good = "a number", _is_number(value)
    elif isinstance(default, dict):
        expected = "a mapping of names to numbers above 0"
        good = isinstance(value, dict) and all(_is_number(amount) and amount > 0 for amount in value.values())
    elif isinstance(default, tuple | list):
        expected, good = "a list", isinstance(value, list | tuple)
        value = tuple(value) if good else value
    else:
        expected, good = "a text", isinstance(value, str)
    if not good:
        raise UserError(f"{where}: expected {expected}, found {value!r}")
    return value


def _number_or_auto(value: Any, where: str) -> Any:
    if value != "auto" and not _is_number(value):
        raise UserError(f"{where}: expected a number or auto, found {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
