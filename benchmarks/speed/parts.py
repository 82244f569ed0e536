"""Parts of the whole, each a section: transitions on their way, pre-training, several learners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Comparison, Contender, compared, interleave
from benchmarks.speed.training import bare, iql_config, load_arrays, prefrec_config, repeated, share_of_paper
from prefrec_ray.algorithms.base.algorithm import on_each_learner
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.offline import Position, PreparedData
from prefrec_ray.algorithms.feed.shards import ShardCache
from prefrec_ray.runtime import start_ray

WAYS = ("materialised", "streaming")
#: Learners, and threads of each.
SPLITS = {"1 learner, 1 thread": (1, 1), "1 learner, 2 threads": (1, 2), "2 learners, 1 thread each": (2, 1)}


def moving_on(start_at: Callable[[int], Any], updates: int) -> Contender:
    """Calls `start_at(0)`, then `start_at(updates)` and so on: the next `updates` updates a call."""
    done = 0

    def run() -> None:
        nonlocal done
        start_at(done)
        done += updates

    return run


def batches_of(config: OfflineConfig, updates: int) -> Contender:
    """The next `updates` batches a call, as one learner takes them."""
    data, cache = PreparedData(config), ShardCache()

    def take(first: int) -> None:
        (plan,) = data.sample(Position("train", first, updates))
        for _ in plan.transitions.batches(torch.device("cpu"), cache):
            pass

    return moving_on(take, updates)


def data_path(dataset: Path, updates: int = 30, repetitions: int = 5) -> dict[str, Any]:
    """Transitions on their way to the learner: `python -m benchmarks data_path DATASET`.

    Batches alone, from shards in the object store and streamed from the data set, against rows of whole arrays in
    memory; then IQL end to end from either. A data set of several shards a lane (16 shards and more) is streamed for
    real: one of 8 is read once and stays at hand.
    """
    start_ray()
    uri, sizes = str(dataset), share_of_paper()
    configs = {way: iql_config(uri, updates, sizes).training(transitions=way) for way in WAYS}
    for config in configs.values():
        config.offline_data(loaded_data=load_data(config.data_request))
    rows = load_arrays(uri, configs["materialised"].loaded_data.value).batches(sizes.transitions, seed=0)
    alone: dict[str, Contender] = {way: batches_of(config, updates) for way, config in configs.items()}
    alone["bare arrays"] = repeated(lambda: next(rows), updates)
    trained = {f"IQL, {way}": config.build_algo().train for way, config in configs.items()}
    ratios = (("streaming", "materialised"), ("materialised", "bare arrays"))
    batches = interleave(alone, updates, repetitions)
    transitions = interleave(trained, updates * sizes.transitions, repetitions)
    return compared(
        Comparison("data path alone", "batches/s", batches, ratios),
        Comparison("training from either", "transitions/s", transitions, [("IQL, streaming", "IQL, materialised")]),
    )


def reward(dataset: Path, updates: int = 3, repetitions: int = 5) -> dict[str, Any]:
    """Pre-training of the reward: `python -m benchmarks reward DATASET`.

    The product's mini-batches of preferences, as a learner takes them, against bare loops on the same segments.
    """
    start_ray()
    uri, sizes = str(dataset), share_of_paper()
    config = prefrec_config(uri, updates, sizes)
    loaded = load_data(config.data_request)
    algorithm = config.offline_data(loaded_data=loaded).build_algo()

    def pretrain(first: int) -> None:
        (plan,) = algorithm.offline_data.preference_plans(Position("pretrain", first, updates))
        on_each_learner(algorithm.learner_group, [lambda learner: learner.pretrain_reward(plan, updates)])

    pairs = (("product", "tuned bare reward"), ("product", "plain bare reward"))
    contenders = {name: bare(name, uri, loaded, sizes, updates) for _, name in pairs}
    contenders = {"product": moving_on(pretrain, updates), **contenders}
    rates = interleave(contenders, updates * sizes.pairs, repetitions)
    return compared(Comparison("pre-training of the reward", "pairs/s", rates, pairs))


def learners(dataset: Path, updates: int = 5, repetitions: int = 5) -> dict[str, Any]:
    """Scaling with learners: `python -m benchmarks learners DATASET`.

    One learner with a thread, one with two, and two with one each, all on batches of the same size and on the same two
    cores: the last two differ in how the work is split alone (threads inside a matrix product against averaged
    gradients). Ray is told of more processors than there are, so that all learners exist at once; those whose turn it
    is not sleep.
    """
    start_ray(num_cpus=sum(count * threads for count, threads in SPLITS.values()) + 1)
    uri, sizes = str(dataset), share_of_paper()
    loaded = load_data(prefrec_config(uri, updates, sizes).data_request)
    contenders = {}
    for name, (count, threads) in SPLITS.items():
        config = prefrec_config(uri, updates, sizes).offline_data(loaded_data=loaded)
        config.training(train_batch_size_per_learner=sizes.transitions // count)
        config.learners(num_learners=count, num_cpus_per_learner=threads)
        contenders[name] = config.build_algo().train
    rates = interleave(contenders, updates * sizes.transitions, repetitions)
    *others, two = SPLITS
    pairs = [(two, other) for other in others[::-1]]
    return compared(Comparison("PrefRec by learners", "transitions/s", rates, pairs))
