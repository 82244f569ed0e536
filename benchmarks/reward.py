"""Pre-training of the reward: `python -m benchmarks.reward DATASET [--json FILE]`.

The product's mini-batches of preferences, as a learner takes them, against bare loops on the same segments.
"""

from __future__ import annotations

from benchmarks.apart import bare
from benchmarks.interleaved import Comparison, Contender, interleave, options, report
from benchmarks.script import run
from benchmarks.training import add_sizes, given_sizes, prefrec_config
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_each_learner
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.schedule import Position
from prefrec_ray.runtime import start_ray

PAIRS = (("product", "tuned bare reward"), ("product", "plain bare reward"))


def pretraining(algorithm: OfflineAlgorithm, updates: int) -> Contender:
    """The next `updates` mini-batches a call."""
    done = 0

    def run() -> None:
        nonlocal done
        (plan,) = algorithm.offline_data.preference_plans(Position("pretrain", done, updates))
        on_each_learner(algorithm.learner_group, [lambda learner: learner.pretrain_reward(plan, updates)])
        done += updates

    return run


def main() -> None:
    """Prints pairs a second."""
    parser = options(__doc__)
    add_sizes(parser, updates=5)
    arguments = parser.parse_args()
    start_ray()
    uri, updates, sizes = arguments.dataset, arguments.updates, given_sizes(arguments)
    config = prefrec_config(uri, updates, sizes)
    loaded = load_data(config.data_request)
    config.offline_data(loaded_data=loaded)
    contenders = {
        "product": pretraining(config.build_algo(), updates),
        **{name: bare(name, uri, loaded, sizes, updates) for _, name in PAIRS},
    }
    rates = interleave(contenders, updates * sizes.pairs, arguments.repetitions)
    report([Comparison("pre-training of the reward", "pairs/s", rates, PAIRS)], arguments)


if __name__ == "__main__":
    run(main)
