"""Training end to end against bare loops on the same arrays: `python -m benchmarks.training DATASET [--json FILE]`.

Every repetition runs each trainer for the same number of updates, one after another, so that all meet the same machine.
The product is one iteration of `PrefRec` (or `IQL`) as `prefrec train` runs it, its diagnostics and metrics included,
from transitions in the object store; the bare loops (benchmarks/bare_loop.py) have all arrays in their own memory. The
sizes are the paper's (Table 1): 3 x 256, 4,096 transitions, 256 pairs of 2 x 100 requests, one reward update a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from benchmarks.bare_loop import Arrays, Sizes, plain_iql, plain_prefrec, tuned_prefrec
from benchmarks.machine import machine, matrix_rate
from prefrec_ray.algorithms import IQLConfig, PrefRecConfig
from prefrec_ray.algorithms.data import load_data
from prefrec_ray.algorithms.recipes import PAPER
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

#: (product, bare loop): what is divided by what.
RATIOS = (("PrefRec", "tuned bare PrefRec"), ("PrefRec", "plain bare PrefRec"), ("IQL", "plain bare IQL"))


def trainers(
    uri: str, updates: int, transitions: int, pairs: int, hidden_sizes: tuple[int, ...]
) -> dict[str, Callable[[], Any]]:
    """By name, what runs `updates` updates when it is called. Ray is started; all data are loaded."""
    own: dict[str, Any] = {
        "recipe": "paper",
        "hidden_sizes": hidden_sizes,
        "train_batch_size_per_learner": transitions,
        "preference_batch_size": pairs,
        "pretrain_epochs": 0,
        "num_epochs": 1_000_000,
        "updates_per_iteration": updates,
    }
    shared = PrefRecConfig().offline_data(input_=uri).training(**own)
    loaded = load_data(shared)
    prefrec = shared.offline_data(loaded_data=loaded).build_algo()
    iql = IQLConfig().offline_data(input_=uri, loaded_data=loaded).training(**own, finetune_reward=False).build_algo()
    arrays = Arrays.load(PreparedDataset.open(uri), ray.get(loaded.preferences))
    rates = {
        "reward": PAPER["reward_lr"],
        "value": PAPER["value_lr"],
        "q": PAPER["critic_lr"],
        "actor": PAPER["actor_lr"],
    }
    sizes = Sizes(hidden_sizes, transitions, pairs, rates, PAPER["gamma"], PAPER["expectile"], PAPER["tau"])

    def repeated(update: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(updates):
                update()

        return run

    return {
        "PrefRec": prefrec.train,
        "tuned bare PrefRec": repeated(tuned_prefrec(arrays, sizes, seed=0)),
        "plain bare PrefRec": repeated(plain_prefrec(arrays, sizes, seed=0)),
        "IQL": iql.train,
        "plain bare IQL": repeated(plain_iql(arrays, sizes, seed=0)),
    }


def compare(found: dict[str, Callable[[], Any]], transitions: int, repetitions: int) -> dict[str, list[float]]:
    """Transitions a second of each, a number a repetition, after one that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in found}
    for repetition in range(repetitions + 1):
        for name, run in found.items():
            begin = time.perf_counter()
            run()
            if repetition:
                rates[name].append(transitions / (time.perf_counter() - begin))
    return rates


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """Medians of the ratios within repetitions: neighbours in time are compared."""
    return {
        f"{mine} / {other}": statistics.median(a / b for a, b in zip(rates[mine], rates[other], strict=True))
        for mine, other in RATIOS
        if mine in rates
    }


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--transitions", type=int, default=PAPER["train_batch_size_per_learner"])
    parser.add_argument("--pairs", type=int, default=PAPER["preference_batch_size"])
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=PAPER["hidden_sizes"])
    parser.add_argument("--json")
    arguments = parser.parse_args()
    start_ray()
    given = (arguments.transitions, arguments.pairs, tuple(arguments.hidden_sizes))
    found = trainers(arguments.dataset, arguments.updates, *given)
    rates = compare(found, arguments.updates * arguments.transitions, arguments.repetitions)
    for name, values in rates.items():
        print(f"{name:22} {statistics.median(values):10,.0f} transitions/s  ({min(values):,.0f} to {max(values):,.0f})")
    for name, value in ratios(rates).items():
        print(f"{name:40} {value:.2f}")
    if arguments.json:
        about = {**machine(), "matrix_gflops": round(matrix_rate() / 1e9, 1), "settings": vars(arguments)}
        result = {"machine": about, "transitions_per_second": rates, "ratios": ratios(rates)}
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
