"""Training end to end against bare loops on the same arrays: `python -m benchmarks training DATASET`.

The product is one iteration of `PrefRec` (or `IQL`) as `prefrec train` runs it, its diagnostics and metrics included,
from transitions in the object store; the bare loops (bare_loop.py) have all arrays in the memory of
processes of their own. "PrefRec, bf16" is the same with `precision: bf16`, which no bare loop has. The sizes are
the paper's (Table 1): 3 x 256, 4,096 transitions, 256 pairs of 2 x 100 requests, one reward update a step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.harness import Comparison, Contender, compared, interleave
from benchmarks.speed.bare_loop import LOOPS, Arrays, Sizes
from prefrec_ray.acceleration import keep_freed_memory
from prefrec_ray.algorithms import IQLConfig, PrefRecConfig
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.settings import ExpectileSettings, recipe_defaults
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

PAPER = recipe_defaults(ExpectileSettings, "paper")

#: Pairs of contenders whose ratio is printed.
PAIRS = (
    ("PrefRec", "tuned bare PrefRec"),
    ("PrefRec", "plain bare PrefRec"),
    ("PrefRec, bf16", "plain bare PrefRec"),
    ("IQL", "plain bare IQL"),
)


def settings_of(updates: int, sizes: Sizes) -> dict[str, Any]:
    """Settings of the paper's recipe for iterations of `updates` updates, without pre-training."""
    return {
        "recipe": "paper",
        "task": "depth",
        "hidden_sizes": sizes.hidden_sizes,
        "train_batch_size_per_learner": sizes.transitions,
        "preference_batch_size": sizes.pairs,
        "pretrain_epochs": 0,
        "num_epochs": 1_000_000,
        "updates_per_iteration": updates,
    }


def prefrec_config(uri: str, updates: int, sizes: Sizes) -> OfflineConfig:
    """PrefRec with fine-tuning."""
    return PrefRecConfig().offline_data(input_=uri).training(**settings_of(updates, sizes))


def iql_config(uri: str, updates: int, sizes: Sizes) -> OfflineConfig:
    """IQL on rewards of a reward model that stays as it is."""
    own = settings_of(updates, sizes) | {"finetune_reward": False}
    return IQLConfig().offline_data(input_=uri).training(**own)


def load_arrays(uri: str, loaded: LoadedData) -> Arrays:
    """The data set in this process's memory, for bare loops."""
    return Arrays.load(PreparedDataset.open(uri), ray.get(loaded.preferences))


def repeated(update: Callable[[], None], updates: int) -> Contender:
    """`updates` updates a call."""

    def run() -> None:
        for _ in range(updates):
            update()

    return run


# A process of its own: nothing that the product does to its process may help or hinder the loop. Only one contender
# runs at a time: it has all cores, for any count of Ray.
@ray.remote(num_cpus=0)
class _BareLoop:
    def __init__(self, name: str, uri: str, preferences: PreferenceBuffer, sizes: Sizes, threads: int) -> None:
        if name.startswith("tuned"):
            keep_freed_memory()
        torch.set_num_threads(threads)
        self._update = LOOPS[name](Arrays.load(PreparedDataset.open(uri), preferences), sizes)

    def run(self, updates: int) -> None:
        """`updates` updates."""
        repeated(self._update, updates)()


def bare(name: str, uri: str, loaded: LoadedData, sizes: Sizes, updates: int) -> Contender:
    """`updates` updates a call of one of LOOPS on the data set `uri`, with as many threads as this process has."""
    loop = _BareLoop.remote(name, uri, loaded.preferences, sizes, torch.get_num_threads())
    return lambda: ray.get(loop.run.remote(updates))


def paper_sizes(hidden_sizes: tuple[int, ...], transitions: int, pairs: int) -> Sizes:
    """Sizes of a comparison, at the paper's rates."""
    names = {"reward": "reward_lr", "value": "value_lr", "q": "critic_lr", "actor": "actor_lr"}
    rates = {name: PAPER[key] for name, key in names.items()}
    return Sizes(hidden_sizes, transitions, pairs, rates, PAPER["gamma"], PAPER["expectile"], PAPER["tau"])


#: The sizes of the paper.
PAPER_SIZES = paper_sizes(PAPER["hidden_sizes"], PAPER["train_batch_size_per_learner"], PAPER["preference_batch_size"])


# 24 updates are a quarter of an epoch of the standard data: the default of an iteration.
def main(dataset: Path, updates: int = 24, repetitions: int = 5) -> dict[str, Any]:
    """Prints medians and ratios."""
    start_ray()
    uri, sizes = str(dataset), PAPER_SIZES
    config, half = (prefrec_config(uri, updates, sizes).training(precision=kind) for kind in ("float32", "bf16"))
    loaded = load_data(config.data_request)
    contenders = {
        "PrefRec": config.offline_data(loaded_data=loaded).build_algo().train,
        "PrefRec, bf16": half.offline_data(loaded_data=load_data(half.data_request, loaded)).build_algo().train,
        "tuned bare PrefRec": bare("tuned bare PrefRec", uri, loaded, sizes, updates),
        "plain bare PrefRec": bare("plain bare PrefRec", uri, loaded, sizes, updates),
        "IQL": iql_config(uri, updates, sizes).offline_data(loaded_data=loaded).build_algo().train,
        "plain bare IQL": bare("plain bare IQL", uri, loaded, sizes, updates),
    }
    rates = interleave(contenders, updates * sizes.transitions, repetitions)
    return compared(Comparison("training, end to end", "transitions/s", rates, PAIRS))
