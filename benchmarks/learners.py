"""Scaling with learners: `python -m benchmarks.learners DATASET [--json FILE]`.

One learner with a thread, one with two, and two with one each, all on batches of the same size and on the same two
cores: the last two differ in how the work is split alone (threads inside a matrix product against averaged gradients).
Ray is told of more processors than there are, so that all learners exist at once; those whose turn it is not sleep.
"""

from __future__ import annotations

from benchmarks.interleaved import Comparison, interleave, options, report
from benchmarks.script import run
from benchmarks.training import add_sizes, given_sizes, prefrec_config
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.runtime import start_ray

#: Learners, and threads of each.
SPLITS = {"1 learner, 1 thread": (1, 1), "1 learner, 2 threads": (1, 2), "2 learners, 1 thread each": (2, 1)}
PAIRS = (
    ("2 learners, 1 thread each", "1 learner, 2 threads"),
    ("2 learners, 1 thread each", "1 learner, 1 thread"),
)


def main() -> None:
    """Prints transitions a second."""
    parser = options(__doc__)
    add_sizes(parser, updates=5)
    arguments = parser.parse_args()
    start_ray(num_cpus=sum(learners * threads for learners, threads in SPLITS.values()) + 1)
    uri, updates, sizes = arguments.dataset, arguments.updates, given_sizes(arguments)
    loaded = load_data(prefrec_config(uri, updates, sizes).data_request)
    contenders = {}
    for name, (learners, threads) in SPLITS.items():
        config = prefrec_config(uri, updates, sizes).offline_data(loaded_data=loaded)
        config.training(train_batch_size_per_learner=sizes.transitions // learners)
        config.learners(num_learners=learners, num_cpus_per_learner=threads)
        contenders[name] = config.build_algo().train
    rates = interleave(contenders, updates * sizes.transitions, arguments.repetitions)
    report([Comparison("PrefRec by learners", "transitions/s", rates, PAIRS)], arguments)


if __name__ == "__main__":
    run(main)
