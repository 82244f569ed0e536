"""Ray Data's own ways into the learner against the feed: `python -m benchmarks streaming_split DATASET`.

IQL at the paper's sizes, one iteration of `prefrec train` per repetition. The contenders differ only in their batches:
from the feed of the product (algorithms/feed), or from `streaming_split` and `iter_torch_batches` with a local shuffle
buffer. Passes go on from one repetition to the next, as in training.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from ray.data import DataIterator

from benchmarks.harness import Comparison, Contender, compared, interleave
from benchmarks.speed.training import PAPER_SIZES, iql_config
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_first_learner
from prefrec_ray.algorithms.feed.batches import Batch
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.shards import ACTIONS, NEXT_OBS, OBS
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

#: Stores of the transitions.
WAYS = ("materialised", "streaming")
COLUMNS = {"obs": OBS, "action": ACTIONS, "next_obs": NEXT_OBS}
#: Rows of the shuffle buffer: ten batches.
BUFFER = 40_960


def _endless(data: DataIterator, rows: int) -> Iterator[Batch]:
    """Yield batches of `rows` rows of Ray Data, pass after pass."""
    for seed in count():
        for batch in data.iter_torch_batches(
            batch_size=rows,
            dtypes=torch.float32,
            drop_last=True,
            local_shuffle_buffer_size=BUFFER,
            local_shuffle_seed=seed,
        ):
            yield {COLUMNS[name]: values for name, values in batch.items()}


def main(dataset: Path, updates: int = 30, repetitions: int = 3) -> dict[str, Any]:
    """Print rates and ratios."""
    start_ray(num_cpus=2 * 2 * len(WAYS) + 2)  # only one learner works at a time
    uri, sizes = str(dataset), PAPER_SIZES
    algorithms: dict[str, OfflineAlgorithm] = {}
    for way in WAYS:
        config = iql_config(uri, updates, sizes).training(transitions=way)
        # In a process of its own, which Ray ends: an open iterator of Ray Data would start Ray again at the exit.
        config.learners(num_learners=1, num_cpus_per_learner=2)
        config.offline_data(loaded_data=load_data(config.data_request))
        algorithms[f"feed, {way}"] = config.build_algo()
        rows = PreparedDataset.open(uri).ray_data("transitions", columns=list(COLUMNS))
        (data,) = (rows.materialize() if way == "materialised" else rows).streaming_split(1)
        algorithms[f"Ray Data, {way}"] = algorithm = config.build_algo()
        on_first_learner(algorithm.learner_group, partial(_take_from, data=data, rows=sizes.transitions))
    waits: dict[str, list[float]] = {name: [] for name in algorithms}

    def train(name: str) -> Contender:
        def run() -> None:
            algorithms[name].train()
            waits[name].append(algorithms[name].report["time/data_wait_share"])

        return run

    rates = interleave({name: train(name) for name in algorithms}, updates * sizes.transitions, repetitions)
    shares = {name: statistics.median(values[1:]) for name, values in waits.items()}
    for name, share in shares.items():
        print(f"{name}: the learner waits for batches {share:.0%} of the time")
    pairs = [(f"Ray Data, {way}", f"feed, {way}") for way in WAYS]
    comparison = Comparison("IQL by the way of its batches", "transitions/s", rates, pairs)
    return compared(comparison, data_wait_share=shares)


def _take_from(learner: Any, data: DataIterator, rows: int) -> None:
    batches = _endless(data, rows)
    learner.batches = lambda plan: batches  # the plan does not choose the rows
