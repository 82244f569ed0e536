"""One training run from start, or from its last checkpoint, to the end; what it leaves lies in one folder.

RUN/config.json  RUN/progress.csv  RUN/result.json  RUN/checkpoint_000012/  RUN/policy/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.algorithms.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.config import OfflineConfig
from prefrec_ray.algorithms.export import export_policy
from prefrec_ray.algorithms.settings import RLLIB_KEYS, TrainSettings, build_config, training_keys
from prefrec_ray.errors import UserError

#: Columns of progress.csv, in this order.
COLUMNS = (
    "training_iteration",
    "phase",
    "epoch",
    "progress",
    "updates",
    "transitions_per_second",
    "pairs_per_second",
    "time_total_s",
    "losses/reward_loss",
    "losses/value_loss",
    "losses/qf_loss",
    "losses/actor_loss",
    "reward/accuracy_train",
    "reward/accuracy_any_users",
    "reward/accuracy_within_user",
    "reward/loss_any_users",
    "reward/loss_within_user",
    "values/reward_mean",
    "values/q_mean",
    "values/v_mean",
    "policy/action_saturation",
    "policy/item_distance",
    "policy/items_served",
)

Row = dict[str, Any]


def train(
    settings: TrainSettings,
    dataset: str,
    output: str,
    resume: bool = False,
    progress: Callable[[Row], None] | None = None,
    where: str = "train",
) -> list[Row]:
    """Trains to the end of the schedule and exports the policy to RUN/policy.

    Args: `progress` is called with each iteration's row (keys `COLUMNS`). With `resume` the run goes on from its last
    checkpoint, or from the start where it has none. Returns all rows.
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
        rows: list[Row] = []
        checkpoint = latest_checkpoint(output) if resume else None
        if checkpoint is not None:
            algorithm.restore_from_path(_absolute(checkpoint))
            rows = _rows_until(output, algorithm.iteration)
        storage.make_folder(output)
        storage.write_json(storage.join(output, "config.json"), {**description, "resolved": resolved(config)})
        iterations = algorithm.offline_data.schedule.iterations
        while algorithm.iteration < iterations:
            row = flatten(algorithm.train())
            rows.append(row)
            write_rows(output, rows)
            if algorithm.iteration % settings.checkpoint_every == 0 or algorithm.iteration == iterations:
                _save(algorithm, output, settings.keep_checkpoints)
            if progress is not None:
                progress(row)
    finally:
        algorithm.stop()
    policy = storage.join(output, "policy")
    storage.remove(policy)
    last = latest_checkpoint(output)
    assert last is not None
    export_policy(last, policy)
    return rows


def describe(settings: TrainSettings, dataset: str) -> dict[str, Any]:
    """What makes a run what it is."""
    return {**settings.model_dump(include={"method", "recipe", "task", "seed", "config"}), "dataset": dataset}


def resolved(config: OfflineConfig) -> dict[str, Any]:
    """Every setting of a config that a YAML may set, defaults included."""
    return {name: getattr(config, name) for name in sorted({*training_keys(type(config)), *RLLIB_KEYS})}


def latest_checkpoint(run: str) -> str | None:
    """The newest whole checkpoint of a run, or None."""
    found = _checkpoints(run)
    return found[-1] if found else None


def _checkpoints(run: str) -> list[str]:
    system, path = storage.filesystem(run)
    infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    names = sorted(i.base_name for i in infos if re.fullmatch(r"checkpoint_\d+", i.base_name))
    return [storage.join(run, name) for name in names]


def _save(algorithm: OfflineAlgorithm, output: str, keep: int) -> None:
    target = storage.join(output, f"checkpoint_{algorithm.iteration:06d}")
    storage.remove(target)
    with storage.staged(target) as folder:
        algorithm.save_to_path(_absolute(folder))
    for old in _checkpoints(output)[:-keep]:
        storage.remove(old)


def _absolute(uri: str) -> str:
    return uri if "://" in uri else storage.filesystem(uri)[1]


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
    return row


def write_rows(output: str, rows: list[Row]) -> None:
    """Writes progress.csv and result.json of the run's folder `output`."""
    storage.write_csv(storage.join(output, "progress.csv"), rows)
    storage.write_text(storage.join(output, "result.json"), "".join(json.dumps(row) + "\n" for row in rows))


def _rows_until(output: str, iteration: int) -> list[Row]:
    lines = storage.read_text(storage.join(output, "result.json")).splitlines()
    return [row for row in map(json.loads, lines) if row["training_iteration"] <= iteration]
