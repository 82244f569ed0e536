"""The results of a sweep: a table of trials, the best settings, and for each trial a run folder and a policy.

SWEEP/trials.csv  SWEEP/best.yaml  SWEEP/policies/TRIAL/  SWEEP/TRIAL/{config.json,progress.csv,result.json}
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from prefrec_ray import storage
from prefrec_ray.errors import error_line
from prefrec_ray.runs.checkpoints import read_rows, write_rows
from prefrec_ray.runs.columns import COLUMNS, SCORES, Row, finite
from prefrec_ray.runs.export import export_policy
from prefrec_ray.runs.train import build_config, write_config
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.space import train_settings
from prefrec_ray.runs.tuning.trial import SweepPlan

#: Columns of time, which differ from run to run; the last ones of the table.
CLOCK = tuple(name for name in COLUMNS if name.startswith("time") or name.endswith("_per_second"))

_STATES = {"TERMINATED": "stopped", "ERROR": "failed"}


def trial_rows(ended: Sequence[Any], settings: TuneSettings) -> list[Row]:
    """Return the rows of trials.csv, in the order of the trials' numbers.

    A row has the metrics of the last iteration of the trial and the scores of its best checkpoint.
    status: "finished" (by its schedule), "stopped" (by the scheduler), "failed", or "waiting" (interrupted).
    """
    reported = [name for trial in ended for name in trial.last_result.get("reported", ())]
    columns = list(dict.fromkeys((*COLUMNS, *reported, *([settings.metric] if settings.metric else []))))
    # The setting `transitions` has the name of a column.
    columns = [name for name in columns if name not in CLOCK and name not in settings.search]
    rows = [_trial_row(trial, settings, columns) for trial in ended]
    return sorted(rows, key=lambda row: int(row["trial"].rpartition("_")[2]))


def _trial_row(ended: Any, settings: TuneSettings, columns: Sequence[str]) -> Row:
    trial = ended.config["trial"]
    last = ended.last_result
    kept = _kept(ended)
    scores = {}
    if settings.validation is not None:
        names = {"policy_iteration": "training_iteration", **{name: name for name in SCORES}}
        scores = {column: finite(kept.metrics.get(name)) if kept else None for column, name in names.items()}
    status = _STATES.get(ended.status, "waiting")
    if status == "stopped" and last.get("finished"):
        status = "finished"
    return {
        "trial": trial["name"],
        "status": status,
        **{key: trial[key] for key in ("method", "recipe", "task", "seed")},
        **{key: trial["config"].get(key) for key in settings.search},
        **{name: finite(last.get(name)) for name in columns},
        **scores,
        **{name: finite(last.get(name)) for name in CLOCK},
        "error": error_line(ended.get_pickled_error() or ended.get_error()) if status == "failed" else None,
    }


def _kept(ended: Any) -> Any:
    """Return Tune's record (`checkpoint`, `metrics`) of the best checkpoint by score, or of the last, if any."""
    return ended.run_metadata.checkpoint_manager.best_checkpoint_result


@dataclass(frozen=True)
class Best:
    """The settings with the best mean of `metric` over seeds on a task; `rows`: their trials, the best one first."""

    metric: str
    rows: Sequence[Row]

    @property
    def mean(self) -> float:
        return sum(float(row[self.metric]) for row in self.rows) / len(self.rows)

    @property
    def seeds(self) -> str:
        """Return the origin of the mean, as in "mean of seeds 0, 1"."""
        seeds = sorted(row["seed"] for row in self.rows)
        return f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "one seed"


def best_settings(rows: Sequence[Row], settings: TuneSettings) -> dict[str, Best]:
    """Return the best settings by task, of the trials that finished with a value. Tasks without one are excluded."""
    if settings.ranking is None:
        return {}
    metric, sign = settings.ranking
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "finished" and row[metric] is not None:
            key = {name: row[name] for name in ("task", "method", "recipe", *settings.search)}
            groups.setdefault(json.dumps(key, default=str), []).append(row)
    found = [Best(metric, sorted(group, key=lambda row: -sign * row[metric])) for group in groups.values()]
    by_task = {task: [best for best in found if best.rows[0]["task"] == task] for task in settings.task}
    return {task: max(bests, key=lambda best: sign * best.mean) for task, bests in by_task.items() if bests}


def write_best(plan: SweepPlan, rows: Sequence[Row]) -> None:
    """Write the best settings: SWEEP/best.yaml, or best_TASK.yaml for each of several tasks."""
    settings = plan.settings
    for task, best in best_settings(rows, settings).items():
        row = best.rows[0]
        searched = {key: row[key] for key in settings.spaces_of(row["method"])}  # null is a value too
        config = {**settings.base, **searched}
        section = {
            **{key: row[key] for key in ("method", "recipe", "task")},
            "dataset": plan.dataset,
            "seed": row["seed"],
            "config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
            "validation": settings.validation and settings.validation.model_dump(mode="json"),
        }
        keys = "".join(f", {key} {value}" for key, value in searched.items())
        head = f"# {best.metric}: {best.mean:.6g} ({best.seeds}), {row['trial']}{keys}\n"
        name = "best.yaml" if len(settings.task) == 1 else f"best_{task}.yaml"
        storage.write_text(storage.join(plan.output, name), head + yaml.safe_dump({"train": section}, sort_keys=False))


def write_run(plan: SweepPlan, ended: Any) -> None:
    """Complete the trial's folder to a run like `prefrec train`, and export the policy of its best checkpoint.

    If a resume repeated an iteration, its last row counts.
    """
    trial = ended.config["trial"]
    folder = storage.join(plan.output, trial["name"])
    run = train_settings(plan.settings, trial)
    last = {row["training_iteration"]: row for row in read_rows(folder)}
    rows = [{name: finite(row.get(name)) for name in row["reported"]} for _, row in sorted(last.items())]
    write_rows(folder, rows)
    write_config(folder, run, plan.dataset, build_config(run, plan.dataset))
    policy = storage.join(plan.output, "policies", trial["name"])
    storage.remove(policy)
    export_policy(storage.join(folder, posixpath.basename(_kept(ended).checkpoint.path)), policy)
