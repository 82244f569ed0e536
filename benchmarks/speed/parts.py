"""Parts of the whole, each a section: pre-training, learners."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.harness import Comparison, compared, interleave
from benchmarks.speed.training import PAPER_SIZES, bare, prefrec_config
from prefrec_ray.algorithms.base.algorithm import on_each_learner
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.offline import Position
from prefrec_ray.runtime import start_ray

#: Learners, and threads of each.
SPLITS = {"1 learner, 1 thread": (1, 1), "1 learner, 2 threads": (1, 2), "2 learners, 1 thread each": (2, 1)}


def reward(dataset: Path, updates: int = 3, repetitions: int = 5) -> dict[str, Any]:
    """Pre-training of the reward: `python -m benchmarks reward DATASET`.

    The product's mini-batches of preferences, as a learner takes them, against a bare loop on the same segments.
    """
    start_ray()
    uri, sizes = str(dataset), PAPER_SIZES
    config = prefrec_config(uri, updates, sizes)
    loaded = load_data(config.data_request)
    algorithm = config.offline_data(loaded_data=loaded).build_algo()

    first = count(step=updates)

    def pretrain() -> None:
        plans = algorithm.offline_data.preference_plans(Position("pretrain", next(first), updates))
        on_each_learner(algorithm.learner_group, lambda learner: learner.pretrain_reward(plans, updates))

    contenders = {"product": pretrain, "tuned bare reward": bare("tuned bare reward", uri, loaded, sizes, updates)}
    rates = interleave(contenders, updates * sizes.pairs, repetitions)
    return compared(Comparison("pre-training of the reward", "pairs/s", rates, [("product", "tuned bare reward")]))


def learners(dataset: Path, updates: int = 5, repetitions: int = 5) -> dict[str, Any]:
    """Scaling with learners: `python -m benchmarks learners DATASET`.

    One learner with one thread, one with two, and two with one thread each, on batches of the same size and on the same
    two cores. The last two differ only in how the work is split: threads in a matrix product, or averaged gradients.
    Ray gets a larger number of processors than the machine has, so that all learners exist at once; idle ones sleep.
    """
    start_ray(num_cpus=sum(number * threads for number, threads in SPLITS.values()) + 1)
    uri, sizes = str(dataset), PAPER_SIZES
    loaded = load_data(prefrec_config(uri, updates, sizes).data_request)
    contenders = {}
    for name, (number, threads) in SPLITS.items():
        config = prefrec_config(uri, updates, sizes).offline_data(loaded_data=loaded)
        config.training(train_batch_size_per_learner=sizes.transitions // number)
        config.learners(num_learners=number, num_cpus_per_learner=threads)
        contenders[name] = config.build_algo().train
    rates = interleave(contenders, updates * sizes.transitions, repetitions)
    *others, two = SPLITS
    pairs = [(two, other) for other in others[::-1]]
    return compared(Comparison("PrefRec by learners", "transitions/s", rates, pairs))
