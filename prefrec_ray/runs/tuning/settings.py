"""The section `tune` of a YAML: trials of a sweep, their metrics, and their resources; and its checks."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prefrec_ray import plugins
from prefrec_ray.algorithms import SETTINGS, find_settings
from prefrec_ray.algorithms.settings import TrainingSettings, checked_values
from prefrec_ray.errors import UserError, nearest, need
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.runs.columns import COLUMNS, SCORES
from prefrec_ray.settings import CustomResources, Recipe, Seed, Settings, Task


class Space(Settings):
    """The values of one key: exactly one of the four kinds. `methods`: the methods that search it, by default all.

    `grid`: every value, one trial each. Drawn at random: `choice`, one of a list; `uniform` and `loguniform`, a number
    in [low, high].
    """

    grid: list[Any] | None = None
    choice: list[Any] | None = None
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    methods: list[str] | None = None

    @property
    def kind(self) -> str:
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def values(self) -> list[Any]:
        """Return the values of a grid or choice; empty for a range."""
        return list(self.grid or self.choice or [])

    @property
    def bounds(self) -> tuple[float, float]:
        """Return low and high of a range."""
        return self.uniform or self.loguniform or (0.0, 0.0)

    @model_validator(mode="after")
    def _one_kind(self) -> Space:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}")
        if self.kind in ("grid", "choice"):
            if not self.values:
                raise ValueError(f"{self.kind} is empty: no trial would be run")
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{self.kind}: expected the lower bound first")
        if self.kind == "loguniform" and low <= 0:
            raise ValueError("loguniform: expected bounds above 0")
        return self


KINDS = ("grid", "choice", "uniform", "loguniform")
#: More iterations than any trial has.
MAX_ITERATIONS = 1_000_000


class SchedulerSettings(Settings):
    """Early stopping of trials: `none`, or `asha`.

    `asha` compares trials after grace_iterations times each power of reduction_factor; the best 1/reduction_factor
    continue.
    """

    name: Literal["none", "asha"] = "none"
    grace_iterations: int = Field(default=1, ge=1, le=MAX_ITERATIONS)
    reduction_factor: float = Field(default=3, gt=1)


class ResourceSettings(Settings):
    """Ray resources of one trial, in addition to its learners (`num_learners` in `base` or `search`).

    `custom`: custom resources, as in {train: 1}; a trial with one may have 0 CPUs.
    """

    cpus: int = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    custom: CustomResources = Field(default_factory=dict)

    @model_validator(mode="after")
    def _placed(self) -> ResourceSettings:
        if not self.cpus and not self.custom:
            raise ValueError("cpus: expected at least 1, unless a custom resource places the trial")
        return self


class TuneSettings(Settings):
    """The section `tune`; lists of methods, recipes, tasks and seeds are grids."""

    method: list[str] = Field(default=["PrefRec"])
    recipe: list[Recipe] = Field(default=["robust"])
    task: list[Task] = Field(default=["frequency"])
    dataset: str | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Space] = Field(default_factory=dict)
    seeds: list[Seed] = Field(default=[0])
    num_samples: int = Field(default=1, ge=1, le=100_000)
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    scheduler: SchedulerSettings = SchedulerSettings()
    searcher: str = Field(default="random", description="random, optuna, or a [plug-in](add_a_method.md#plug-ins)")
    validation: ValidationSettings | None = None
    resources: ResourceSettings = ResourceSettings()
    max_concurrent: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=4, ge=1, description="iterations between checkpoints of a trial")
    keep_checkpoints: int = Field(default=2, ge=1)
    max_failures: int = Field(default=3, ge=0, description="losses of its process after which a trial continues")

    @property
    def ranking(self) -> tuple[str, Literal[1, -1]] | None:
        """Return the column of trials.csv that ranks trials, and 1 if more is better, else -1.

        Without a `metric` it is the first validation score. None if there is none.
        """
        if self.metric is not None:
            return self.metric, 1 if self.mode == "max" else -1
        return None if self.validation is None else (self.validation.reported[0], 1)

    def spaces_of(self, method: str) -> dict[str, Space]:
        """Return the part of `search` for a method."""
        return {key: space for key, space in self.search.items() if not space.methods or method in space.methods}

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


#: Functions that return a searcher of Ray Tune for the settings of a sweep.
SEARCHERS = {"optuna": "prefrec_ray.runs.tuning.space:optuna_search"}
#: Settings of a run that are grids of the section itself -> their keys there.
OWN = {"recipe": "recipe", "task": "task", "seed": "seeds"}


def checked(settings: TuneSettings, where: str) -> TuneSettings:
    """Return `settings` with the values of `search` converted by their fields.

    Raises `UserError`, prefixed by `where`, for an unknown method, a key that a method does not have or that is
    the section's own, a value of the wrong type, a metric that trials do not report, settings that exclude each other,
    or a missing package.
    """
    if settings.searcher != "random":
        plugins.check("searchers", settings.searcher, f"{where}: key 'searcher'", SEARCHERS)
    for key, space in settings.search.items():
        for method in space.methods or ():
            if method not in settings.method:
                raise UserError(
                    f"{where}: key 'search.{key}.methods': '{method}' is not in this sweep; "
                    f"{nearest(method, settings.method)}"
                )
    for part in ("base", "search"):
        for key, grid in OWN.items():
            if key in getattr(settings, part):
                raise UserError(f"{where}: key '{part}.{key}': belongs to the section itself; expected {grid}: there")
    search: dict[str, Space] = dict(settings.search)
    for method in settings.method:
        model, prefix = find_settings(method, f"{where}: "), f"{where}: method {method}"
        checked_values(model, settings.base, prefix, "base.")
        for key in settings.spaces_of(method):
            search[key] = _checked_space(key, search[key], model, prefix)
    settings = settings.model_copy(update={"search": search})
    _check_metric(settings, where)
    _check_together(settings, where)
    if settings.searcher == "optuna":
        need("search", "optuna", where=where)
    return settings


def _checked_space(key: str, space: Space, model: type[TrainingSettings], where: str) -> Space:
    """Return `space` with its values converted by the field of `key`. Both ends of a range and a draw are checked."""

    def checked_value(value: Any) -> Any:
        return checked_values(model, {key: value}, where, "search.")[key]

    if space.kind in ("grid", "choice"):
        return space.model_copy(update={space.kind: [checked_value(value) for value in space.values]})
    low, high = space.bounds
    for bound in space.bounds:
        checked_value(bound)
    try:
        checked_value(low + math.sqrt(0.5) * (high - low))
    except UserError as error:  # both bounds are valid, this number between them is not whole
        raise UserError(
            f"{where}: key 'search.{key}': found {space.kind}, for a setting of whole numbers; expected grid or choice"
        ) from error
    return space


def metrics(settings: TuneSettings) -> list[str]:
    """Return the numbers that trials report; a method has its part of the losses and values."""
    columns = [name for name in COLUMNS if name != "phase" and name not in settings.search]  # `phase` is a text
    return [*columns, *(settings.validation.reported if settings.validation is not None else ())]


def _check_metric(settings: TuneSettings, where: str) -> None:
    """Raise `UserError` for a metric that no trial reports; metrics of a user's own method are not known yet."""
    known = metrics(settings)
    scored, own = settings.metric in SCORES, any(method not in SETTINGS for method in settings.method)
    if settings.metric is not None and settings.metric not in known and (scored or not own):
        hint = "set validation (its estimators, or online) for it" if scored else nearest(settings.metric, known)
        raise UserError(f"{where}: key 'metric': no trial reports '{settings.metric}'; {hint}")


def _check_together(settings: TuneSettings, where: str) -> None:
    drawn = [key for key, space in settings.search.items() if space.kind != "grid"]
    if settings.num_samples > 1 and not drawn:
        raise UserError(
            f"{where}: key 'num_samples': found {settings.num_samples}, but no key of 'search' is drawn "
            f"(choice, uniform, loguniform)"
        )
    scheduler = settings.scheduler.name
    for what in [name for name in (scheduler, settings.searcher) if name not in ("none", "random")]:
        if settings.metric is None:
            raise UserError(f"{where}: key 'metric' is missing; {what} needs one")
        if len(settings.task) > 1:
            raise UserError(f"{where}: {what} compares trials, and tasks have no common scale; expected one task")
    if settings.searcher != "random":
        if len(drawn) < len(settings.search) or not drawn:
            raise UserError(
                f"{where}: searcher {settings.searcher} draws every key; expected 'search' with choice instead of grid"
            )
        if len(settings.seeds) > 1:
            raise UserError(
                f"{where}: searcher {settings.searcher} takes one seed, found {len(settings.seeds)}; expected one"
            )
    validation = settings.validation
    if scheduler != "none" and settings.metric in SCORES and validation is not None and validation.every != 1:
        raise UserError(f"{where}: scheduler {scheduler} compares trials in mid-training; expected validation.every: 1")
