"""The first seconds of commands on a small data set: `python -m benchmarks start`.

From the start of the process to the first update of `prefrec train`, to the first record of `prefrec evaluate`, and to
the end of `prefrec validate`, each a process of its own, on a data set of 120 users that is made first.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import prefrec
from prefrec_ray.bench.table import markdown

SECTIONS: dict[str, Any] = {
    "simulate": {"users": 120, "requests": 60, "items": 200, "shards": 2},
    "prepare": {
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
        "evaluate policy --dataset data --estimators ncis",
    ),
}


def main(repetitions: int = 3) -> dict[str, Any]:
    """Prints medians, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        sections = {
            **SECTIONS,
            "prepare": {**SECTIONS["prepare"], "source": {"kind": "simulator", "path": f"{at}/logs"}},
        }
        (at / "all.yaml").write_text(yaml.safe_dump(sections))
        prefrec("simulate", f"{at}/all.yaml", "--output", f"{at}/logs")
        prefrec("prepare", f"{at}/all.yaml", "--output", f"{at}/data")
        prefrec("train", f"{at}/all.yaml", "--dataset", f"{at}/data", "--output", f"{at}/first")
        (at / "policy").symlink_to(at / "first" / "policy")
        seconds: dict[str, list[float]] = {name: [] for name in (*MOMENTS, "validate")}
        for n in range(repetitions):
            for name, (place, line) in MOMENTS.items():
                seconds[name].append(_until(place, line.format(n=n), at))
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "prefrec_ray.cli.main", "validate", "all.yaml"],
                cwd=at,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds["validate"].append(time.perf_counter() - begin)
    rows = [(name, f"{statistics.median(values):.2f}", f"{min(values):.2f}") for name, values in seconds.items()]
    print(markdown(("until", "median, s", "smallest"), rows))
    return {"seconds": seconds}


def _until(place: str, line: str, folder: Path) -> float:
    """Seconds from the start of a process until it reaches `module:function`."""
    module, _, name = place.partition(":")
    command = [sys.executable, "-c", SCRIPT, module, name, str(time.time()), *line.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    reached = [text for text in done.stdout.splitlines() if text.startswith("reached")]
    assert reached, done.stdout + done.stderr
    return float(reached[0].split()[1])
