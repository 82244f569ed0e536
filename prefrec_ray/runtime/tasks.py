"""Ray tasks by the dozen: a bounded number in flight, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ray

from prefrec_ray.runtime.progress import Progress

_BRANCH = 8
#: Seconds that are waited for tasks of which another one has failed.
PATIENCE = 60.0


def run_tasks(
    submit: Callable[[Any], Any],
    inputs: Iterable[Any],
    stage: str,
    progress: Progress,
    of: tuple[int, int] | None = None,
) -> list[Any]:
    """`submit(x)` starts a task and gives its reference; returns the results for all `inputs`, in their order.

    At most twice as many tasks as the cluster has CPUs wait or run at a time, so that what they need and what they
    make stays bounded. `of` (done before, total) is for a stage that takes several calls. Where one fails, the others
    have ended too: none writes on where the caller cleans up.
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
        # To cancel them can end this process too: Ray 2.60 checks what a race between the two breaks.
        if pending:
            ray.wait(list(pending), num_returns=len(pending), timeout=PATIENCE)
        raise
    return results


def reduce_tasks(
    submit: Callable[[Any], Any], merge: Any, inputs: Iterable[Any], stage: str, progress: Progress
) -> Any:
    """Returns the reference to the merge of `submit(x)` over all `inputs` (at least one), when it is there.

    `merge` is a remote function of up to 8 parts, which are merged in a tree of one fixed shape as they come: never
    more parts wait than run at once or fill a branch.
    """
    inputs = list(inputs)
    levels: list[list[Any]] = []  # of each level of the tree the parts that fill no branch yet
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
