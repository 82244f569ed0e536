"""Many Ray tasks: a bounded number at a time, with results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ray

from prefrec_ray.runtime.progress import Progress

_BRANCH = 8
#: Seconds to wait for the other tasks after one has failed.
PATIENCE = 60.0


def run_tasks(
    submit: Callable[[Any], Any],
    inputs: Iterable[Any],
    stage: str,
    progress: Progress,
    of: tuple[int, int] | None = None,
) -> list[Any]:
    """Return the results of tasks for all `inputs`, in their order.

    `submit(x)` starts a task and returns its reference.

    At a time, the number of waiting and running tasks is at most twice the number of CPUs, which bounds the memory of
    their inputs and results. `of` (done before, total) is for a stage of several calls. If a task fails, the function
    waits for the others, so that none writes files while the caller removes them.
    """
    inputs = list(inputs)
    results: list[Any] = [None] * len(inputs)
    pending: dict[Any, int] = {}
    done, total = of or (0, len(inputs))
    if inputs:
        progress(stage, done, total)
    limit = _at_once()
    try:
        for number, value in enumerate(inputs):
            while len(pending) >= limit:
                done = _collect(pending, results, done, stage, total, progress)
            pending[submit(value)] = number
        while pending:
            done = _collect(pending, results, done, stage, total, progress)
    except Exception:
        # Not cancelled: in Ray 2.60 a race between task and cancellation fails a check, which ends this process too.
        if pending:
            ray.wait(list(pending), num_returns=len(pending), timeout=PATIENCE)
        raise
    return results


def reduce_tasks(
    submit: Callable[[Any], Any], merge: Any, inputs: Iterable[Any], stage: str, progress: Progress
) -> Any:
    """Return the reference to the merged results of `submit(x)` over all `inputs` (at least one).

    `merge` is a remote function of up to 8 parts, which are merged in a tree of a fixed shape as they arrive. The
    number of waiting parts is bounded by the number of running tasks and the size of a branch.
    """
    inputs = list(inputs)
    levels: list[list[Any]] = []  # for each level of the tree, the parts of an incomplete branch
    pending: list[Any] = []

    def add(part: Any, level: int) -> None:
        if level == len(levels):
            levels.append([])
        levels[level].append(part)
        if len(levels[level]) == _BRANCH:
            parts, levels[level] = levels[level], []
            add(merge.remote(*parts), level + 1)

    limit = _at_once()
    progress(stage, 0, len(inputs))
    for number, value in enumerate(inputs):
        if len(pending) >= limit:
            _, pending = ray.wait(pending, fetch_local=False)
            progress(stage, number - len(pending), len(inputs))
        pending.append(submit(value))
        add(pending[-1], 0)
    for level in range(len(levels)):
        if levels[level] and (level + 1 < len(levels) or len(levels[level]) > 1):
            parts, levels[level] = levels[level], []
            add(merge.remote(*parts), level + 1)
    merged = next(part for parts in levels for part in parts)
    ray.wait([merged], fetch_local=False)
    progress(stage, len(inputs), len(inputs))
    return merged


def _at_once() -> int:
    return max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))


def _collect(pending: dict[Any, int], results: list[Any], done: int, stage: str, total: int, progress: Progress) -> int:
    (ready,), _ = ray.wait(list(pending))
    results[pending.pop(ready)] = ray.get(ready)
    progress(stage, done + 1, total)
    return done + 1
