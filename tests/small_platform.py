"""The smallest simulated platform that all stages work on, for tests of where data lie and what breaks meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

#: The section `train: config`, or `tune: base`, without its length. No roll-outs choose the serving rule.
NETWORKS: dict[str, Any] = {
    "hidden_sizes": [8, 8],
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "pretrain_epochs": 1,
    "serving": {"temperature": 0.2, "variety": 1.0, "repetition": 0.0, "scores": "q"},
}


def logs_and_data(bucket: str) -> dict[str, Any]:
    """The sections `simulate`, and `prepare` of the logs at `bucket`/logs."""
    return {
        "simulate": {"users": 60, "requests": 60, "items": 40, "shards": 2},
        "prepare": {
            "source": {"kind": "simulator", "path": f"{bucket}/logs"},
            "train_fraction": 0.6,
            "validation_fraction": 0.2,
            "partitions": 2,
            "preferences": {"pairs": 64, "validation_pairs": 32, "length": 10, "min_requests": 20},
        },
    }


def simulate_logs(folder: Path) -> None:
    """Write the logs to `folder`/logs."""
    simulate(parse(SimulateSettings, logs_and_data(str(folder))["simulate"], "test"), f"{folder}/logs")


def prepare_logs(folder: Path, name: str, **changes: Any) -> PreparedDataset:
    """Prepare the logs of `folder` as `folder`/`name`, with `changes` of the section `prepare`."""
    section = logs_and_data(str(folder))["prepare"] | changes
    return prepare(parse(PrepareSettings, section, "test"), f"{folder}/{name}")
