"""Content of a sweep's folder: settings, trials with their curves, and the evaluation; and names of its settings."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports.load import Run, dataset_name, load_run, read_judged
from prefrec_ray.runs.tuning.settings import Space, TuneSettings
from prefrec_ray.settings import parse

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
#: Columns of trials.csv that are not metrics, in addition to the searched keys.
TEXTS = ("trial", "status", "method", "recipe", "task", "seed", "phase", "error")


@dataclass(frozen=True)
class Setting:
    """The settings that several seeds share; `keys`: the searched keys that the method has."""

    method: str
    recipe: str
    keys: tuple[tuple[str, Any], ...]

    @property
    def keys_text(self) -> str:
        """Return the searched keys and their values."""
        return ", ".join(f"{key}={short(value)}" for key, value in self.keys)


@dataclass(frozen=True)
class Trial:
    """A row of trials.csv; `figures`: metrics at the end of the trial (None: not reported)."""

    name: str
    status: str
    setting: Setting
    task: str
    seed: int
    figures: Mapping[str, float | None]
    error: str

    @property
    def keys(self) -> dict[str, Any]:
        """Return the searched keys that the trial's method has."""
        return dict(self.setting.keys)


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder. `runs`: of finished trials, by name; `evaluation`: evaluation.json; `best`: text by file."""

    uri: str
    dataset: str
    smoke: bool
    settings: TuneSettings
    trials: Sequence[Trial]
    runs: Mapping[str, Run]
    evaluation: Evaluation | None
    best: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return self.uri.rpartition("/")[2]

    @property
    def dataset_name(self) -> str:
        """Return the name of the data set, without its parent folder."""
        return dataset_name(self.dataset)

    @cached_property
    def finished(self) -> list[Trial]:
        """Return the trials that ran to their end."""
        return [trial for trial in self.trials if trial.status == FINISHED]

    @property
    def tasks(self) -> list[str]:
        """Return the tasks with a finished trial, in the order of the settings."""
        return [task for task in self.settings.task if any(trial.task == task for trial in self.finished)]

    @property
    def chosen(self) -> list[Setting]:
        """Return the settings with a finished trial, in the order of their numbers."""
        return list(dict.fromkeys(trial.setting for trial in self.finished))

    @property
    def is_drawn(self) -> bool:
        """Return whether a key is drawn at random; else all are grids."""
        return any(space.kind != "grid" for space in self.settings.search.values())

    @property
    def labels(self) -> dict[Setting, str]:
        """Return a name for each of `chosen`; settings with drawn values are named by their first trials."""
        if not self.is_drawn:
            return names(self.chosen)
        method = method_names([setting.method for setting in self.chosen])
        labels: dict[Setting, str] = {}
        for trial in self.finished:
            number = f"#{trial.name.rpartition('_')[2]}"
            own = f"{method[trial.setting.method]} {number}" if len(method) > 1 else number
            labels.setdefault(trial.setting, own)
        return labels

    def group(self, setting: Setting, task: str) -> list[Trial]:
        """Return the finished trials of a setting on a task: its seeds."""
        return [trial for trial in self.finished if trial.setting == setting and trial.task == task]


def names(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Return a name for each setting: method and recipe if they differ, then its keys; the method if nothing else."""
    method = method_names([setting.method for setting in settings])
    several_recipes = len({setting.recipe for setting in settings}) > 1
    by_setting = {}
    for setting in settings:
        name = method[setting.method] if len(method) > 1 or not setting.keys else ""
        recipe = setting.recipe if several_recipes else ""
        by_setting[setting] = " ".join(filter(None, (name, recipe, setting.keys_text)))
    return by_setting


def method_names(methods: Sequence[str]) -> dict[str, str]:
    """Return a name by method: the class of `module:Class`, or all of it if two classes have the same name."""
    unique = dict.fromkeys(methods)
    classes = [method.rpartition(":")[2] for method in unique]
    return {m: name if classes.count(name) == 1 else m for m, name in zip(unique, classes, strict=True)}


def short(value: Any) -> str:
    """Format a value, with three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def is_sweep(uri: str) -> bool:
    """Return whether the folder contains a sweep."""
    return storage.exists(storage.join(uri, "sweep.json"))


def load_sweep(uri: str) -> Sweep:
    """Load the sweep in the folder `uri`.

    Raises `UserError`: no sweep.json, invalid settings, no trials.csv (the sweep has not ended), a missing column, a
    missing run of a finished trial, an evaluation.json of other policies.
    """
    root = str(uri).rstrip("/")
    file = storage.join(root, "sweep.json")
    description = storage.read_json(file)
    if not isinstance(description, dict):
        raise UserError(f"{file}: found {type(description).__name__}; expected the sweep.json of `prefrec tune`")
    for key in ("dataset", "settings"):
        if key not in description:
            raise UserError(f"{file}: key '{key}' is missing; expected the sweep.json of `prefrec tune`")
    settings = parse(TuneSettings, description["settings"], f"{file}: settings")
    trials = _load_trials(root, settings)
    evaluation = storage.join(root, "evaluation.json")
    return Sweep(
        uri=root,
        dataset=str(description["dataset"]),
        smoke=bool(description.get("smoke")),
        settings=settings,
        trials=trials,
        runs={trial.name: load_run(storage.join(root, trial.name)) for trial in trials if trial.status == FINISHED},
        evaluation=read_judged(evaluation) if storage.exists(evaluation) else None,
        best={
            path.rpartition("/")[2]: storage.read_text(path)
            for path in storage.list_files(root, ".yaml")
            if path.rpartition("/")[2].startswith("best")
        },
    )


def _load_trials(root: str, settings: TuneSettings) -> list[Trial]:
    file = storage.join(root, "trials.csv")
    if not storage.exists(file):
        raise UserError(f"{root}: no trials.csv in it: the sweep has not ended; continue it by prefrec tune --resume")
    reader = csv.DictReader(io.StringIO(storage.read_text(file)))
    columns = reader.fieldnames or []
    for column in (*(name for name in TEXTS if name != "phase"), *settings.search):
        if column not in columns:
            raise UserError(f"{file}: column '{column}' is missing; expected the trials.csv of `prefrec tune`")
    trials = [_trial(row, settings, f"{file}: line {number}") for number, row in enumerate(reader, start=2)]
    if not trials:
        raise UserError(f"{file}: no trial in it; expected one row per trial")
    return trials


def _trial(row: Mapping[str, str], settings: TuneSettings, where: str) -> Trial:
    if None in row or None in row.values():
        raise UserError(f"{where}: more or fewer values than columns; expected the trials.csv of `prefrec tune`")
    spaces = settings.spaces_of(row["method"])
    keys = tuple((key, _value(row[key], space, f"{where}: column '{key}'")) for key, space in spaces.items())
    figures = {
        name: _number(text, f"{where}: column '{name}'") if text else None
        for name, text in row.items()
        if name not in TEXTS and name not in settings.search
    }
    return Trial(
        name=row["trial"],
        status=row["status"],
        setting=Setting(row["method"], row["recipe"], keys),
        task=row["task"],
        seed=int(_number(row["seed"], f"{where}: column 'seed'")),
        figures=figures,
        error=row["error"],
    )


def _value(text: str, space: Space, where: str) -> Any:
    """Return the value that was written as `text` (empty: null): one of a grid or choice, or a number of a range."""
    if not space.values:
        return _number(text, where)
    known = {"" if value is None else str(value): value for value in space.values}
    written = text.replace("(", "[").replace(")", "]")
    if written not in known:
        raise UserError(f"{where}: found '{text}', expected one of {', '.join(map(str, space.values))}")
    value = known[written]
    return tuple(value) if isinstance(value, list) else value


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{where}: found '{text}', expected a number") from error
