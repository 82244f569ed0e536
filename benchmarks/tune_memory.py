"""Memory of a sweep's concurrent trials against one: `python -m benchmarks.tune_memory DATASET [TRIALS] [EPOCHS]`.

Memory is the largest while trials run, counted as in `prepare_memory`: private memory of all processes (driver, trials,
Ray's own and its idle workers), and once the object store in use. Ray is told that it has as many processors as there
are trials, so that all run at once.
"""

from __future__ import annotations

import sys
import tempfile
import time

import ray

from benchmarks.prepare_memory import GB, PeakMemory
from benchmarks.script import run
from prefrec_ray.runtime import start_ray
from prefrec_ray.tuning.run import sweep
from prefrec_ray.tuning.settings import TuneSettings


def measure(dataset: str, trials: int, epochs: float) -> PeakMemory:
    """A sweep of `trials` trials of PrefRec, all at once (one pre-trained reward, as many actor rates)."""
    start_ray(num_cpus=trials)
    base = {"hidden_sizes": [128, 128, 128], "train_batch_size_per_learner": 512, "preference_batch_size": 16}
    rates = [1e-4 * (1 + number) for number in range(trials)]
    settings = TuneSettings.model_validate(
        {
            "base": {**base, "pretrain_epochs": 0.01, "num_epochs": epochs},
            "search": {"actor_lr": {"grid": rates}},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        memory = PeakMemory()

        def begin(stage: str, done: int, total: int) -> None:
            if stage == "rewards" and done == total:
                memory.start()

        sweep(settings, dataset, f"{folder}/sweep", progress=begin)
        memory.stop.set()
        memory.join()
    ray.shutdown()
    return memory


def main() -> None:
    """Prints both figures, and their ratio."""
    dataset, *rest = sys.argv[1:]
    trials = int(rest[0]) if rest else 8
    epochs = float(rest[1]) if len(rest) > 1 else 1.0
    peaks = []
    for number in (1, trials):
        started = time.monotonic()
        memory = measure(dataset, number, epochs)
        peaks.append(memory.peak)
        print(
            f"{number} trial(s): {memory.peak / GB:.2f} GB at the peak, {memory.peak_shared / GB:.2f} GB of it shared, "
            f"{time.monotonic() - started:.0f} s"
        )
    print(f"{trials} trials take {peaks[1] / peaks[0]:.2f} times the memory of one")


if __name__ == "__main__":
    run(main)
