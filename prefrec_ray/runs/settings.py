"""The section `train` of a YAML."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from prefrec_ray.algorithms import find_settings
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.settings import Recipe, Seed, Settings, Task, parse


class TrainSettings(Settings):
    """Section `train`: task, data set, and any setting of the method, checked except against a data set."""

    method: str = "PrefRec"
    recipe: Recipe = "robust"
    task: Task = "frequency"
    dataset: str | None = None
    seed: Seed = 0
    checkpoint_every: int = Field(default=4, ge=1, description="iterations between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1)
    max_failures: int = Field(default=3, ge=0, description="losses of a learner or node after which it continues")
    validation: ValidationSettings | None = Field(
        default=None, description="scores on validation users, which select the checkpoint; null: the last one"
    )
    choose_rule: bool = Field(
        default=True, description="try serving rules by roll-outs at the end; false: fixed values instead of `auto`"
    )
    config: dict[str, Any] = Field(default_factory=dict)

    def selects(self, iterations: int) -> bool:
        """Return whether a run with this number of iterations has several scored checkpoints to select from."""
        return self.validation is not None and len(self.validation.scored(iterations)) > 1

    @model_validator(mode="after")
    def _config_is_of_method(self) -> Self:
        try:
            self.training()
        except UserError as error:
            raise ValueError(str(error).removeprefix("train: ")) from error
        return self

    def training(self) -> TrainingSettings:
        """Return the method's settings. Raises `UserError` for a copy with an invalid `update`."""
        model = find_settings(self.method, "train: ")
        own = {"recipe": self.recipe, "task": self.task, "seed": self.seed}
        for key in own:
            if key in self.config:
                raise UserError(f"train: key 'config.{key}': belongs to the section itself; expected {key}: there")
        return parse(model, {**own, **self.config}, "train", "config.")
