"""How long a reward should learn: `python -m benchmarks pretraining DATASET ... [--updates 60 120 240 560]`.

DATASET is of a simulated log with `truth`, as that of a log of `python -m benchmarks truth`. For networks of several
sizes, rewards of the recipe `robust` after so many mini-batches: their correlations with the true satisfaction over
training requests, of the next request and as means of the next 100. bench/pretraining.csv has a row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.harness import FOLDER, markdown
from prefrec_ray import storage
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.algorithms.reward.pretrain import pretrain
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

SIZES = ((64, 64), (128, 128), (256, 256, 256))
HORIZONS = (1, 100)


def main(
    datasets: Sequence[Path],
    updates: Sequence[int] = (60, 120, 240, 560),
    tasks: Sequence[str] = ("depth", "frequency"),
) -> dict[str, Any]:
    """Writes the rows and prints them."""
    start_ray()
    rows: list[dict[str, Any]] = []
    for dataset, task in product(datasets, tasks):
        data = PreparedDataset.open(str(dataset.resolve()))
        truth = {horizon: ray.get(label_transitions(data, None, horizon)) for horizon in HORIZONS}
        loaded: LoadedData | None = None
        for sizes, most in product(SIZES, updates):
            settings = {"hidden_sizes": sizes, "pretrain_epochs": 100, "pretrain_updates": most, "task": task}
            config = PrefRecConfig().offline_data(input_=data.uri).training(**settings)
            request = config.reward_request
            assert request is not None
            loaded = loaded or load_data(config.data_request)  # sizes and updates are nothing to the data
            reward = RewardFunction.of(request, pretrain(request, loaded))
            labels = {horizon: ray.get(label_transitions(data, reward, horizon)) for horizon in HORIZONS}
            rows.append({"log": "/".join(dataset.parts[-3:-1]), "task": task, "networks": "x".join(map(str, sizes))})
            rows[-1]["updates"] = most
            for horizon in HORIZONS:
                rows[-1][f"next {horizon}"] = round(float(np.corrcoef(labels[horizon], truth[horizon])[0, 1]), 3)
            print(*rows[-1].values(), flush=True)
    FOLDER.mkdir(exist_ok=True)
    storage.write_csv(str(FOLDER / "pretraining.csv"), rows)
    print(markdown(list(rows[0]), [list(row.values()) for row in rows]))
    return {"rows": rows}
