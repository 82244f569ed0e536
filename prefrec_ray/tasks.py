"""Ray tasks by the dozen: a bounded number in flight, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ray

Progress = Callable[[str, int, int], None]  # stage, done, total


def run_tasks(submit: Callable[[Any], Any], inputs: Iterable[Any], stage: str, progress: Progress) -> list[Any]:
    """`submit(x)` starts a task and gives its reference; returns the results for all `inputs`, in their order.

    At most twice as many tasks as the cluster has CPUs wait or run at a time, so that what they need and what they
    make stays bounded.
    """
    inputs = list(inputs)
    limit = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    results: list[Any] = [None] * len(inputs)
    pending: dict[Any, int] = {}
    done = 0
    for number, value in enumerate(inputs):
        while len(pending) >= limit:
            done = _collect(pending, results, done, stage, len(inputs), progress)
        pending[submit(value)] = number
    while pending:
        done = _collect(pending, results, done, stage, len(inputs), progress)
    return results


def _collect(pending: dict[Any, int], results: list[Any], done: int, stage: str, total: int, progress: Progress) -> int:
    (ready,), _ = ray.wait(list(pending))
    results[pending.pop(ready)] = ray.get(ready)
    progress(stage, done + 1, total)
    return done + 1
