"""A sweep of small trials against the same updates in bare loops: `python -m benchmarks trials DATASET`.

The sweep is `prefrec tune`'s: PrefRec under `paper`, 64 x 64, batches of 256, half a pass over the data per trial, with
its processes, imports, loading, diagnostics, checkpoints and exports. The bare loops (bare_loop.py) make the same
number of updates from arrays in their memory, in one process per CPU at the same time.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from benchmarks.speed.training import _BareLoop, paper_sizes, settings_of
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.runs.tuning.run import sweep
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runtime import start_ray

SIZES = paper_sizes((64, 64), 256, 16)


def main(dataset: Path, trials: int = 24, epochs: float = 0.5, task: str = "frequency") -> dict[str, Any]:
    """Print the seconds of the sweep and of the bare loops, and their ratio."""
    start_ray()
    uri, base = str(dataset.resolve()), {**settings_of(0, SIZES), "num_epochs": epochs}
    for key in ("recipe", "task", "updates_per_iteration"):
        del base[key]
    config = PrefRecConfig().offline_data(input_=uri).training(recipe="paper", task=task, **base)
    settings = TuneSettings(
        method=["PrefRec"], recipe="paper", task=task, seeds=tuple(range(trials)), base=base, metric=None
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        rows = sweep(settings, uri, f"{folder}/sweep")
        swept = time.perf_counter() - begin
    updates = sum(int(row["updates"]) for row in rows)
    bare = bare_loops(uri, load_data(config.data_request), updates)
    print(f"{trials} trials, {updates} updates: {swept:.1f} s; bare loops {bare:.1f} s; {swept / bare:.2f} times that")
    return {"updates": updates, "sweep_seconds": swept, "bare_seconds": bare, "ratio": swept / bare}


def bare_loops(uri: str, loaded: LoadedData, updates: int) -> float:
    """Seconds for `updates` updates in all by a process for each CPU; these have started before."""
    cpus = os.cpu_count() or 1
    loops = [_BareLoop.remote("tuned bare PrefRec", uri, loaded.preferences, SIZES, 1) for _ in range(cpus)]
    ray.get([loop.run.remote(1) for loop in loops])
    begin = time.perf_counter()
    ray.get([loop.run.remote(updates // cpus) for loop in loops])
    seconds = time.perf_counter() - begin
    for loop in loops:
        ray.kill(loop)
    return seconds
