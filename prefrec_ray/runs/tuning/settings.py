"""The section `tune` of a YAML: trials of a sweep, their metrics, and their resources."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.settings import Recipe, Seed, Settings, Task
from prefrec_ray.storage.memory import check_need


class Space(Settings):
    """The values of one key: exactly one of the five kinds. `methods`: the methods that search it, by default all.

    `grid`: every value, one trial each. Drawn at random: `choice`, one of a list; `uniform` and `loguniform`
    [low, high]; `quniform` [low, high, step], one of low, low + step, ... up to high.
    """

    grid: list[Any] | None = None
    choice: list[Any] | None = None
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    quniform: tuple[float, float, float] | None = None
    methods: list[str] | None = None

    @property
    def kind(self) -> str:
        """Return the kind that is set."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def values(self) -> list[Any]:
        """Return the values of a grid or choice; empty for a range."""
        return list(self.grid or self.choice or [])

    @property
    def bounds(self) -> tuple[float, float, float | None]:
        """Return low, high and step (None: continuous) of a range."""
        low, high, *step = getattr(self, self.kind)
        return low, high, step[0] if step else None

    @model_validator(mode="after")
    def _one_kind(self) -> Space:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}")
        if self.kind in ("grid", "choice"):
            if not self.values:
                raise ValueError(f"{self.kind} is empty: no trial would be run")
            return self
        low, high, step = self.bounds
        if not low < high:
            raise ValueError(f"{self.kind}: expected the lower bound first")
        if self.kind == "loguniform" and low <= 0:
            raise ValueError("loguniform: expected bounds above 0")
        if step is not None and step <= 0:
            raise ValueError("quniform: expected a step above 0")
        return self


KINDS = ("grid", "choice", "uniform", "loguniform", "quniform")


class SchedulerSettings(Settings):
    """Early stopping of trials: `none`, `asha` or `pbt`.

    `asha` compares trials after grace_iterations times each power of reduction_factor; the best 1/reduction_factor
    continue. `pbt`: every perturb_every iterations the worst quarter copies weights and perturbed settings of the best.
    """

    name: Literal["none", "asha", "pbt"] = "none"
    grace_iterations: int = Field(default=1, ge=1)
    reduction_factor: float = Field(default=3, gt=1)
    perturb_every: int = Field(default=2, ge=1)


class ResourceSettings(Settings):
    """Ray resources of one trial, in addition to its learners (`num_learners` in `base` or `search`).

    `custom`: custom resources, as in {train: 1}; a trial with one may have 0 CPUs.
    """

    cpus: int = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    custom: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _placed(self) -> ResourceSettings:
        for name, amount in self.custom.items():
            if name in ("CPU", "GPU") or amount <= 0:
                raise ValueError(f"custom: expected amounts above 0 of resources other than CPU and GPU ('{name}')")
        if not self.cpus and not self.custom:
            raise ValueError("cpus: expected at least 1, unless a custom resource places the trial")
        return self


class StopSettings(Settings):
    """Limits of every trial: iterations, or passes over the transitions."""

    iterations: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)


#: Bytes of a trial in Tune's list: its settings and its newest result as text.
_OF_TRIAL = 1_000


class TuneSettings(Settings):
    """The section `tune`; lists of methods, recipes, tasks and seeds are grids."""

    method: list[str] = Field(default=["PrefRec"])
    recipe: list[Recipe] = Field(default=["robust"])
    task: list[Task] = Field(default=["frequency"])
    dataset: str | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Space] = Field(default_factory=dict)
    seeds: list[Seed] = Field(default=[0])
    num_samples: int = Field(default=1, ge=1)
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    scheduler: SchedulerSettings = SchedulerSettings()
    searcher: Literal["random", "optuna"] = "random"
    validation: ValidationSettings | None = None
    resources: ResourceSettings = ResourceSettings()
    max_concurrent: int | None = Field(default=None, ge=1)
    storage_path: str | None = None
    stop: StopSettings = StopSettings()
    checkpoint_every: int = Field(default=4, ge=1, description="iterations between checkpoints of a trial")
    keep_checkpoints: int = Field(default=2, ge=1)
    mlflow: str | None = Field(default=None, description="tracking URI of MLflow")

    @property
    def ranking(self) -> tuple[str, Literal[1, -1]] | None:
        """Return the column of trials.csv that ranks trials, and 1 if more is better, else -1.

        Without a `metric` it is the first validation score. None if there is none.
        """
        if self.metric is not None:
            return self.metric, 1 if self.mode == "max" else -1
        return None if self.validation is None else (self.validation.reported[0], 1)

    @field_validator("num_samples")
    @classmethod
    def _fit_into_memory(cls, value: int) -> int:
        check_need(_OF_TRIAL * value, f"{value:,} trials")
        return value

    @field_validator("method", "recipe", "task", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("scheduler", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("method", "recipe", "task", "seeds")
    @classmethod
    def _not_empty(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("a grid of zero trials; expected at least one value")
        if len(set(value)) < len(value):
            raise ValueError("expected each value once")
        return value
