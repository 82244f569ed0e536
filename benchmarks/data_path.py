"""Transitions on their way to the learner: `python -m benchmarks.data_path DATASET [--json FILE]`.

Batches alone, from shards in the object store and streamed from the data set, against rows of whole arrays in memory;
then IQL end to end from either. A data set of several shards a lane (16 shards and more) is streamed for real: one of 8
is read once and stays at hand.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.interleaved import Comparison, Contender, interleave, options, report
from benchmarks.script import run
from benchmarks.training import add_sizes, given_sizes, iql_config, load_arrays
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import PreparedData, load_data
from prefrec_ray.algorithms.feed.schedule import Position
from prefrec_ray.algorithms.feed.shards import Shelf
from prefrec_ray.runtime import start_ray

WAYS = ("materialised", "streaming")


def batches_of(config: OfflineConfig, updates: int) -> Contender:
    """The next `updates` batches a call, as one learner takes them."""
    data, shelf, done = PreparedData(config), Shelf(), 0

    def run() -> None:
        nonlocal done
        (plan,) = data.sample(Position("train", done, updates))
        for _ in plan.transitions.batches(torch.device("cpu"), shelf):
            pass
        done += updates

    return run


def bare_batches(arrays: Any, size: int, updates: int) -> Contender:
    """The same number of batches by torch's indexing of whole arrays."""
    batches = arrays.batches(size, seed=0)

    def run() -> None:
        for _ in range(updates):
            next(batches)

    return run


def main() -> None:
    """Prints both comparisons."""
    parser = options(__doc__)
    add_sizes(parser, updates=40)
    arguments = parser.parse_args()
    start_ray()
    uri, updates, sizes = arguments.dataset, arguments.updates, given_sizes(arguments)
    configs = {way: iql_config(uri, updates, sizes).training(transitions=way) for way in WAYS}
    for config in configs.values():
        config.offline_data(loaded_data=load_data(config.data_request))
    arrays = load_arrays(uri, configs["materialised"].loaded_data.value)
    alone: dict[str, Contender] = {way: batches_of(config, updates) for way, config in configs.items()}
    alone["bare arrays"] = bare_batches(arrays, sizes.transitions, updates)
    trained = {f"IQL, {way}": config.build_algo().train for way, config in configs.items()}
    ratio = (("streaming", "materialised"), ("materialised", "bare arrays"))
    end_to_end = (("IQL, streaming", "IQL, materialised"),)
    found = [
        Comparison("data path alone", "batches/s", interleave(alone, updates, arguments.repetitions), ratio),
        Comparison(
            "training from either",
            "transitions/s",
            interleave(trained, updates * sizes.transitions, arguments.repetitions),
            end_to_end,
        ),
    ]
    report(found, arguments)


if __name__ == "__main__":
    run(main)
