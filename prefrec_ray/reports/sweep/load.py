"""Content of a sweep's folder: settings, trials with their curves, and the evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports.load import Run, dataset_name, load_run, read_judged
from prefrec_ray.runs.checkpoints import read_description
from prefrec_ray.runs.tuning.settings import Space, TuneSettings
from prefrec_ray.settings import parse

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
#: Columns of trials.csv that are not metrics, in addition to the searched keys.
TEXTS = ("trial", "status", "method", "recipe", "task", "seed", "phase", "error")

Key = TypeVar("Key", bound=Hashable)
#: Method, recipe and searched keys: what trials with different tasks and seeds share.
Setting = tuple[str, str, str]


@dataclass(frozen=True)
class Trial:
    """A row of trials.csv; `keys`: the searched keys of its method; `metrics`: at its end (None: not reported)."""

    name: str
    status: str
    method: str
    recipe: str
    task: str
    seed: int
    keys: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    error: str

    @property
    def setting(self) -> Setting:
        """Return what the seeds of this trial share."""
        return self.method, self.recipe, str(self.keys)

    @property
    def keys_text(self) -> str:
        """Return the searched keys and their values."""
        return ", ".join(f"{key}={short(value)}" for key, value in self.keys.items())


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder. `runs`: of finished trials, by name; `evaluation`: evaluation.json; `best`: text by file."""

    uri: str
    dataset: str
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

    @cached_property
    def groups(self) -> dict[Setting, list[Trial]]:
        """Return the finished trials by setting, in the order of their numbers."""
        return grouped(self.finished, lambda trial: trial.setting)

    @property
    def is_drawn(self) -> bool:
        """Return whether a key is drawn at random; else all are grids."""
        return any(space.kind != "grid" for space in self.settings.search.values())

    def label(self, setting: Setting) -> str:
        """Return method and recipe if they differ, then the keys, or the number of the first trial of drawn keys."""
        first = self.groups[setting][0]
        keys = f"#{first.name.rpartition('_')[2]}" if self.is_drawn else first.keys_text
        methods, recipes = ({trial.method for trial in self.finished}, {trial.recipe for trial in self.finished})
        method = self.method_name(first.method) if len(methods) > 1 or not keys else ""
        return " ".join(filter(None, (method, first.recipe if len(recipes) > 1 else "", keys)))

    def method_name(self, method: str) -> str:
        """Return the class of `module:Class`, or all of it if two methods have classes of this name."""
        name = method.rpartition(":")[2]
        others = {trial.method for trial in self.trials} - {method}
        return method if any(other.rpartition(":")[2] == name for other in others) else name


def grouped(trials: Iterable[Trial], key: Callable[[Trial], Key]) -> dict[Key, list[Trial]]:
    """Return the trials by `key`, in their order."""
    groups: dict[Key, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return groups


def short(value: Any) -> str:
    """Format a value, with three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def is_sweep(uri: str) -> bool:
    """Return whether the folder contains a sweep."""
    return storage.exists(storage.join(uri, "sweep.json"))


def load_sweep(uri: str) -> Sweep:
    """Load the sweep in the folder `uri`.

    Raises `UserError`: no sweep.json, invalid settings, no trials.csv (the sweep has not ended), another table, a
    missing run of a finished trial, an evaluation.json of other policies.
    """
    root = str(uri).rstrip("/")
    file = storage.join(root, "sweep.json")
    description = read_description(file, ("dataset", "settings"))
    settings = parse(TuneSettings, description["settings"], f"{file}: settings")
    trials = _load_trials(root, settings)
    evaluation = storage.join(root, "evaluation.json")
    return Sweep(
        uri=root,
        dataset=str(description["dataset"]),
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
    rows = list(csv.DictReader(io.StringIO(storage.read_text(file))))
    if not rows:
        raise UserError(f"{file}: no trial in it; expected one row per trial")
    trials = []
    for number, row in enumerate(rows, start=2):
        try:
            trials.append(_trial(row, settings))
        except KeyError as error:
            raise UserError(f"{file}: column {error} is missing; expected the trials.csv of `prefrec tune`") from error
        except (ValueError, TypeError) as error:  # TypeError: more or fewer values than columns
            where = f"{file}: line {number}"
            raise UserError(f"{where}: expected a row of the trials.csv of `prefrec tune` ({error})") from error
    return trials


def _trial(row: Mapping[str, str], settings: TuneSettings) -> Trial:
    metrics = [name for name in row if name not in TEXTS and name not in settings.search]
    return Trial(
        name=row["trial"],
        status=row["status"],
        method=row["method"],
        recipe=row["recipe"],
        task=row["task"],
        seed=int(row["seed"]),
        keys={key: _value(row[key], space) for key, space in settings.spaces_of(row["method"]).items()},
        metrics={name: float(row[name]) if row[name] != "" else None for name in metrics},
        error=row["error"],
    )


def _value(text: str, space: Space) -> Any:
    """Return the value that was written as `text` (empty: null): one of a grid or choice, or a number of a range."""
    if not space.values:
        return float(text)
    known = ["" if value is None else str(value) for value in space.values]
    value = space.values[known.index(text.replace("(", "[").replace(")", "]"))]
    return tuple(value) if isinstance(value, list) else value
