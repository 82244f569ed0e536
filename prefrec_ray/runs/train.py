"""One training run from start, or from its last checkpoint, to the end; what it leaves lies in one folder.

RUN/config.json  RUN/progress.csv  RUN/result.json  RUN/checkpoint_000012/  RUN/policy/
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from typing import Any, Protocol

from prefrec_ray import storage
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_each_learner
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import best_checkpoint, checkpoints, latest_checkpoint, save_checkpoint
from prefrec_ray.runs.columns import COLUMNS, SCORES
from prefrec_ray.runs.config import build_config
from prefrec_ray.runs.export import export_policy
from prefrec_ray.runs.monitoring import publish
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.terms import Task

Row = dict[str, Any]


class Judge(Protocol):
    """Scores policies on validation users."""

    @property
    def metric(self) -> str:
        """The one of `SCORES` whose highest value makes the best checkpoint."""

    def due(self, iteration: int, last: bool) -> bool:
        """Whether to score after this iteration."""

    def scores(self, policy: Policy, task: Task) -> dict[str, float]:
        """`SCORES`, or some of them."""


def train(
    settings: TrainSettings,
    dataset: str,
    output: str,
    resume: bool = False,
    progress: Callable[[Row], None] | None = None,
    where: str = "train",
    judge: Judge | None = None,
) -> list[Row]:
    """Trains to the end of the schedule and exports the policy to RUN/policy: the best one by `judge`, or the last.

    Args: `progress` is called with each iteration's row (keys `COLUMNS`, and `SCORES` with a `judge`). With `resume`
    the run goes on from its last whole checkpoint, or from the start where it has none. Returns all rows.
    Raises `UserError` if `output` exists (without `resume`), or if the run was started with other settings.
    """
    config = build_config(settings, dataset, where)
    description = describe(settings, dataset)
    started = storage.exists(storage.join(output, "config.json"))
    if storage.exists(output) and not resume:
        raise UserError(f"{output}: already exists; go on with it by --resume, or choose another output folder")
    if resume and started:
        _check_same(storage.read_json(storage.join(output, "config.json")), description, output)
    algorithm: OfflineAlgorithm = config.build_algo()
    try:
        rows = _restore(algorithm, output) if resume else []
        storage.make_folder(output)
        storage.write_json(storage.join(output, "config.json"), {**description, "resolved": resolved(config)})
        iterations = algorithm.offline_data.schedule.iterations
        while algorithm.iteration < iterations:
            row = flatten(algorithm.train())
            last = algorithm.iteration == iterations
            if judge is not None:
                row |= dict.fromkeys(SCORES)
                if judge.due(algorithm.iteration, last):
                    row |= judge.scores(policy_now(algorithm), settings.task)
            rows.append(row)
            write_rows(output, rows)
            score = row.get(judge.metric) if judge is not None else None
            if last or algorithm.iteration % settings.checkpoint_every == 0 or score is not None:
                save_checkpoint(algorithm, output, settings.keep_checkpoints, score)
            publish(row, posixpath.basename(output.rstrip("/")), settings.method, settings.task)
            if progress is not None:
                progress(row)
    finally:
        algorithm.stop()
    policy = storage.join(output, "policy")
    storage.remove(policy)
    export_policy(best_checkpoint(output) or checkpoints(output)[-1], policy)
    return rows


def policy_now(algorithm: OfflineAlgorithm) -> Policy:
    """The policy as it stands."""
    return on_each_learner(algorithm.learner_group, [lambda learner: policy_of(learner.net)])[0]


def _restore(algorithm: OfflineAlgorithm, output: str) -> list[Row]:
    """Puts the algorithm where the newest whole checkpoint left it; the rows until there."""
    # What a kill has left half-written; nothing else writes to this folder.
    for leftover in (*storage.list_folders(output), *storage.list_files(output)):
        if leftover.endswith(".partial"):
            storage.remove(leftover)
    with latest_checkpoint(output) as found:
        if found is None:
            return []
        algorithm.restore_from_path(found[1])
    # Checkpoints after it are damaged; they will be written again.
    for later in checkpoints(output):
        if later > found[0]:
            storage.remove(later)
    return _rows_until(output, algorithm.iteration)


def describe(settings: TrainSettings, dataset: str) -> dict[str, Any]:
    """What makes a run what it is."""
    return {
        **settings.model_dump(include={"method", "recipe", "task", "seed", "config", "validation"}),
        "dataset": dataset,
    }


def resolved(config: OfflineConfig) -> dict[str, Any]:
    """Every setting of a config, defaults included."""
    return dict(sorted(config.settings.model_dump().items()))


def _check_same(before: dict[str, Any], now: dict[str, Any], output: str) -> None:
    # Through JSON, as the file holds it: tuples have become lists.
    for key, value in json.loads(json.dumps(now)).items():
        if before.get(key) != value:
            raise UserError(
                f"{output}: started with {key} = {before.get(key)!r}, asked to go on with {value!r}; "
                f"expected the same settings"
            )


def flatten(result: dict[str, Any]) -> Row:
    """RLlib's result as a row of progress.csv; None where a method has no such figure."""
    row: Row = {}
    for column in COLUMNS:
        value: Any = result
        for part in column.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        row[column] = value
    by_teacher = result.get("reward", {}).get("accuracy_by", {})
    return row | {f"reward/accuracy_by/{teacher}": value for teacher, value in by_teacher.items()}


def write_rows(output: str, rows: list[Row]) -> None:
    """Writes progress.csv and result.json of the run's folder `output`."""
    storage.write_csv(storage.join(output, "progress.csv"), rows)
    storage.write_text(storage.join(output, "result.json"), "".join(json.dumps(row) + "\n" for row in rows))


def _rows_until(output: str, iteration: int) -> list[Row]:
    lines = storage.read_text(storage.join(output, "result.json")).splitlines()
    return [row for row in map(json.loads, lines) if row["training_iteration"] <= iteration]
