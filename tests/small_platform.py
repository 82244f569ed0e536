"""The smallest simulated platform that all stages work on, for tests of where data lie and what breaks meanwhile."""

from __future__ import annotations

from typing import Any

#: The section `train: config`, or `tune: base`, without its length.
NETWORKS: dict[str, Any] = {
    "hidden_sizes": [8, 8],
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "pretrain_epochs": 1,
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
