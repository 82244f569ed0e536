"""The section `train` of a YAML."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from prefrec_ray.algorithms.methods import find_settings
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import NcisSettings
from prefrec_ray.settings import Seed, Settings, parse
from prefrec_ray.terms import Recipe, Task


class ValidationSettings(Settings):
    """Scores policies on validation users as trials go: by estimators, and by true levels in the simulator.

    `every`: iterations between scores (the last iteration always has one); null: at the end only. `estimators`: the
    first is what a run's best checkpoint is chosen by. `ncis`: in a YAML that of its section `evaluate`, unless it is
    set here.
    """

    every: int | None = Field(default=None, ge=1)
    estimators: tuple[Literal["preference", "fqe", "ncis"], ...] = Field(default=("preference", "ncis"), min_length=1)
    ncis: NcisSettings = NcisSettings()
    online: bool = False
    users: int = Field(default=200, ge=2, description="of the roll-outs")

    @property
    def reported(self) -> tuple[str, ...]:
        """The columns that it adds to a run's rows, the decisive one first."""
        ess = ("validation/ess",) if "ncis" in self.estimators else ()
        online = ("validation/online",) if self.online else ()
        return (*(f"validation/{name}" for name in self.estimators), *ess, *online)


class TrainSettings(Settings):
    """Section `train`: what to train, on which data set, and any setting of the method."""

    method: str = "PrefRec"
    recipe: Recipe = "robust"
    task: Task = "frequency"
    dataset: str | None = None
    seed: Seed = 0
    checkpoint_every: int = Field(default=4, ge=1, description="iterations between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1)
    validation: ValidationSettings | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    def training(self, where: str = "train") -> TrainingSettings:
        """The method's settings, all checked but against a data set.

        Raises `UserError`, opened by `where`, for an unknown method or key, and for a value that a field refuses.
        """
        model = find_settings(self.method, f"{where}: ")
        own = {"recipe": self.recipe, "task": self.task, "seed": self.seed}
        for key in own:
            if key in self.config:
                raise UserError(f"{where}: key 'config.{key}': belongs to the section itself; expected {key}: there")
        return parse(model, {**own, **self.config}, where, "config.").check_together(f"{where}: config.")
