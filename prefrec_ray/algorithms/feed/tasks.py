"""Tasks that read a data set. For a small data set, and inside a trial of Ray Tune, the caller reads it itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray.util import get_current_placement_group

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset

#: Size up to which one process reads a data set faster than the processes of tasks can start.
SMALL_BYTES = 256 << 20


def in_trial() -> bool:
    """Return True if this process is a trial of Tune's `Tuner`, or another actor or task of a placement group.

    The group reserves the CPUs of the trial and its learners. Tasks would be captured in the group, or wait for a CPU
    that another trial has reserved. They may then never start.
    """
    return get_current_placement_group() is not None


def reads_here(dataset: PreparedDataset) -> bool:
    """Return True if this process should read the data set itself: inside a trial, or if the data set is small."""
    folders = dataset.path("transitions"), dataset.path("requests", "train"), dataset.path("requests", "validation")
    return in_trial() or sum(storage.size(folder) for folder in folders if storage.exists(folder)) <= SMALL_BYTES


def start(function: Callable[..., Any], *inputs: Any, here: bool = False) -> ray.ObjectRef:
    """Return a reference to `function(*inputs)`, references among `inputs` resolved, as a task of one CPU.

    With `here`, and inside a trial, it runs immediately in this process, and this call raises the error instead of
    `ray.get`.
    """
    if not (here or in_trial()):
        return _task(function).remote(*inputs)
    return ray.put(function(*(ray.get(x) if isinstance(x, ray.ObjectRef) else x for x in inputs)))


@cache
def _task(function: Callable[..., Any]) -> Any:
    return ray.remote(num_cpus=1)(function)
