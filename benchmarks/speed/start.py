"""The first seconds of commands on a small data set: `python -m benchmarks start`.

From the start of the process to the first update of `prefrec train` and to the first record of `prefrec evaluate`, on a
data set of 120 users that is made first, and to the end of `prefrec validate` and of `prefrec inspect` on 200,000 rows.
Each is a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import yaml

from benchmarks.harness import prefrec
from prefrec_ray.bench.results import markdown

SECTIONS: dict[str, Any] = {
    "simulate": {"users": 120, "requests": 60, "items": 200, "shards": 2},
    "prepare": {
        "source": {"kind": "simulator", "path": "logs"},
        "preferences": {"length": 10, "min_requests": 20, "pairs": 200, "validation_pairs": 50},
    },
    "train": {
        "task": "frequency",
        "validation": None,
        "config": {
            "hidden_sizes": [16],
            "train_batch_size_per_learner": 64,
            "preference_batch_size": 32,
            "pretrain_epochs": 1,
            "num_epochs": 0.2,
        },
    },
}
#: Ends the process at the first call of a function, and prints the seconds since `began`.
SCRIPT = """
import os, sys, time
from importlib import import_module
module, name, began, *line = sys.argv[1:]
owner = import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
def reached(*a, **k):
    print("reached", time.time() - float(began), flush=True)
    import ray
    ray.shutdown()
    os._exit(0)
setattr(owner, name, reached)
from prefrec_ray.cli.main import run
sys.exit(run(line))
"""
MOMENTS = {
    "first update of train": (
        "prefrec_ray.algorithms.base.learner:OfflineLearner.pretrain_reward",
        "train all.yaml --dataset data --output run{n}",
    ),
    "first score of evaluate": (
        "prefrec_ray.evaluation.estimators.evaluate:score_split",
        "evaluate first/policy --dataset data --estimators ncis",
    ),
}
#: Commands that are measured to their end.
WHOLE = {
    "end of validate": "validate all.yaml",
    "end of inspect": "inspect ratings.csv --output proposed{n}.yaml",
}
RATINGS = 200_000


def main(repetitions: int = 3) -> dict[str, Any]:
    """Prints medians, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "all.yaml").write_text(yaml.safe_dump(SECTIONS))
        for line in ("simulate --output logs", "prepare --output data", "train --dataset data --output first"):
            command, *options = line.split()
            prefrec(command, "all.yaml", *options, folder=at)
        _write_ratings(at / "ratings.csv")
        seconds: dict[str, list[float]] = {name: [] for name in (*MOMENTS, *WHOLE)}
        for n in range(repetitions):
            for name, (place, line) in MOMENTS.items():
                seconds[name].append(_until(place, line.format(n=n), at))
            for name, line in WHOLE.items():
                begin = time.perf_counter()
                prefrec(*line.format(n=n).split(), folder=at)
                seconds[name].append(time.perf_counter() - begin)
    rows = [(name, f"{statistics.median(values):.2f}", f"{min(values):.2f}") for name, values in seconds.items()]
    print(markdown(("until", "median, s", "smallest"), rows))
    return {"seconds": seconds}


def _write_ratings(file: Path) -> None:
    """Write `RATINGS` ratings of two months, in the order of time, in the format of MovieLens."""
    rng = np.random.default_rng(0)
    times = 1_600_000_000 + np.sort(rng.integers(0, 60 * 86_400, RATINGS))
    numbers = {"userId": 3000, "movieId": 2000, "rating": 5}
    columns = {name: rng.integers(1, most + 1, RATINGS) for name, most in numbers.items()}
    pc.write_csv(pa.table({**columns, "timestamp": times}), file)


def _until(place: str, line: str, folder: Path) -> float:
    """Seconds from the start of a process until it reaches `module:function`."""
    module, _, name = place.partition(":")
    command = [sys.executable, "-c", SCRIPT, module, name, str(time.time()), *line.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    reached = [text for text in done.stdout.splitlines() if text.startswith("reached")]
    assert reached, done.stdout + done.stderr
    return float(reached[0].split()[1])
