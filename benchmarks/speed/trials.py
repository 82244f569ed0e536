"""A sweep of small trials against the same updates in bare loops: `python -m benchmarks trials DATASET`.

The sweep is `prefrec tune`'s: PrefRec under `paper`, 64 x 64, batches of 256, half a pass over the data a trial, its
processes, imports, loading, diagnostics, checkpoints and exports included. The bare loops (bare_loop.py) make as many
updates, one process a CPU, all at once, from arrays in their memory. What a trial spends where is measured in one
process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from benchmarks.harness import markdown
from benchmarks.speed.training import _BareLoop, paper_sizes, settings_of
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.runs.export import export_policy
from prefrec_ray.runs.tuning.run import sweep
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runtime import start_ray

SIZES = paper_sizes((64, 64), 256, 16)


def main(dataset: Path, trials: int = 24, epochs: float = 0.5, task: str = "frequency") -> dict[str, Any]:
    """Print the ratio, and the seconds of one trial by purpose."""
    start_ray()
    uri, base = str(dataset.resolve()), {**settings_of(0, SIZES), "num_epochs": epochs}
    for key in ("recipe", "task", "updates_per_iteration"):
        del base[key]
    config = PrefRecConfig().offline_data(input_=uri).training(recipe="paper", task=task, **base)
    loaded = load_data(config.data_request)
    updates, parts = one_trial(config, loaded)
    bare = bare_loops(uri, loaded, trials * updates)
    with tempfile.TemporaryDirectory() as folder:
        settings = TuneSettings(
            method=["PrefRec"], recipe="paper", task=task, seeds=tuple(range(trials)), base=base, metric=None
        )
        swept = timed(lambda: sweep(settings, uri, f"{folder}/sweep"))
    print(
        f"{trials} trials of {updates} updates: {swept:.1f} s; bare loops {bare:.1f} s; {swept / bare:.2f} times that"
    )
    print(markdown(("one trial alone", "seconds"), ((name, f"{value:.2f}") for name, value in parts.items())))
    return {"updates": updates, "sweep_seconds": swept, "bare_seconds": bare, "ratio": swept / bare, "parts": parts}


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bare_loops(uri: str, loaded: LoadedData, updates: int) -> float:
    """Seconds for `updates` updates in all by a process for each CPU; these have started before."""
    cpus = os.cpu_count() or 1
    loops = [_BareLoop.remote("tuned bare PrefRec", uri, loaded.preferences, SIZES, 1) for _ in range(cpus)]
    ray.get([loop.run.remote(1) for loop in loops])
    seconds = timed(lambda: ray.get([loop.run.remote(updates // cpus) for loop in loops]))
    for loop in loops:
        ray.kill(loop)
    return seconds


def one_trial(config: Any, loaded: LoadedData) -> tuple[int, dict[str, float]]:
    """Return the updates and the seconds by purpose of the second of two trials in this process."""
    for _ in range(2):
        parts: dict[str, float] = dict.fromkeys(("build", "updates", "diagnostics", "checkpoint", "export"), 0.0)
        begin = time.perf_counter()
        algorithm = config.copy().offline_data(loaded_data=loaded).build_algo()
        parts["build"] = time.perf_counter() - begin
        diagnose = algorithm._diagnose

        def counted(diagnose: Callable[[], Any] = diagnose, parts: dict[str, float] = parts) -> Any:
            begin = time.perf_counter()
            diagnostics = diagnose()
            parts["diagnostics"] += time.perf_counter() - begin
            return diagnostics

        algorithm._diagnose = counted
        begin = time.perf_counter()
        while not (result := algorithm.train())["done"]:
            pass
        parts["updates"] = time.perf_counter() - begin - parts["diagnostics"]
        folder = tempfile.mkdtemp()
        parts["checkpoint"] = timed(lambda: algorithm.save_to_path(f"{folder}/checkpoint"))  # noqa: B023
        parts["export"] = timed(lambda: export_policy(f"{folder}/checkpoint", f"{folder}/policy"))  # noqa: B023
        shutil.rmtree(folder)
        algorithm.stop()
    return int(result["updates"]), parts
