"""Checks of a sweep before its start."""

from __future__ import annotations

from typing import Any

from prefrec_ray.algorithms.methods import find_settings
from prefrec_ray.algorithms.settings import TrainingSettings, checked_values, reward_settings
from prefrec_ray.errors import UserError, nearest, need
from prefrec_ray.runs.columns import COLUMNS, SCORES
from prefrec_ray.runs.tuning.settings import Space, TuneSettings
from prefrec_ray.runs.tuning.space import spaces_of

#: Columns that are not numbers.
TEXTS = ("phase",)
#: Settings of a run that are grids of the section itself -> their keys there.
OWN = {"recipe": "recipe", "task": "task", "seed": "seeds"}


def checked(settings: TuneSettings, where: str) -> TuneSettings:
    """Return `settings` with the values of `search` converted by their fields.

    Raises `UserError`, prefixed by `where`, for an unknown method, a key that a method does not have or that is
    the section's own, a value of the wrong type, a metric that trials do not report, settings that exclude each other,
    or a missing package.
    """
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
        for key in spaces_of(settings, method):
            search[key] = _checked_space(key, search[key], model, prefix)
    settings = settings.model_copy(update={"search": search})
    _check_metric(settings, where)
    _check_together(settings, where)
    if settings.searcher == "optuna":
        need("search", "optuna", where=where)
    if settings.mlflow is not None:
        need("mlflow", "mlflow", where=where)
    return settings


def _checked_space(key: str, space: Space, model: type[TrainingSettings], where: str) -> Space:
    """Return `space` with its values converted by the field of `key`. Both ends of a range are checked."""

    def checked_value(value: Any) -> Any:
        return checked_values(model, {key: value}, where, "search.")[key]

    if space.kind in ("grid", "choice"):
        return space.model_copy(update={space.kind: [checked_value(value) for value in space.values]})
    low, high, _ = space.bounds
    for bound in (low, high):
        checked_value(int(bound) if bound == int(bound) else bound)
    return space


def _check_metric(settings: TuneSettings, where: str) -> None:
    """Raise `UserError` for a metric that no trial reports; metrics of a user's own method are not known yet."""
    known = [name for name in COLUMNS if name not in TEXTS]
    if settings.validation is not None:
        known += settings.validation.reported
    scored, own = settings.metric in SCORES, any(":" in method for method in settings.method)
    if settings.metric is not None and settings.metric not in known and (scored or not own):
        hint = "set validation (its estimators, or online) for it" if scored else nearest(settings.metric, known)
        raise UserError(f"{where}: key 'metric': no trial reports '{settings.metric}'; {hint}")


def _check_together(settings: TuneSettings, where: str) -> None:
    drawn = [key for key, space in settings.search.items() if space.kind != "grid"]
    if settings.num_samples > 1 and not drawn:
        raise UserError(
            f"{where}: key 'num_samples': found {settings.num_samples}, but no key of 'search' is drawn "
            f"(choice, uniform, loguniform, quniform)"
        )
    scheduler = settings.scheduler.name
    for what in [name for name in (scheduler, settings.searcher) if name not in ("none", "random")]:
        if settings.metric is None:
            raise UserError(f"{where}: key 'metric' is missing; {what} needs one")
        if len(settings.task) > 1:
            raise UserError(f"{where}: {what} compares trials, and tasks have no common scale; expected one task")
    if settings.searcher == "optuna":
        if len(drawn) < len(settings.search) or not drawn:
            raise UserError(f"{where}: searcher optuna draws every key; expected 'search' with choice instead of grid")
        if len(settings.seeds) > 1:
            raise UserError(f"{where}: searcher optuna takes one seed, found {len(settings.seeds)}; expected one")
    validation = settings.validation
    if scheduler != "none" and settings.metric in SCORES and validation is not None and validation.every != 1:
        raise UserError(f"{where}: scheduler {scheduler} compares trials in mid-training; expected validation.every: 1")
    if scheduler == "pbt":
        if settings.searcher != "random":
            raise UserError(f"{where}: scheduler pbt searches by itself; expected searcher random")
        if settings.max_concurrent is not None:
            raise UserError(
                f"{where}: key 'max_concurrent': scheduler pbt compares all trials with each other, "
                f"waiting ones too; expected no limit other than 'resources'"
            )
        if len(settings.method) > 1 or len(settings.recipe) > 1:
            raise UserError(f"{where}: scheduler pbt copies weights between trials; expected one method and one recipe")
        model = find_settings(settings.method[0])
        for key, space in settings.search.items():
            if (
                space.kind not in ("uniform", "loguniform")
                or key in reward_settings(model)
                or not isinstance(model.model_fields[key].default, float)
            ):
                raise UserError(
                    f"{where}: key 'search.{key}': scheduler pbt changes it in mid-training; "
                    f"expected a range of gamma, tau, the expectile or a rate of actor, critic or V"
                )
