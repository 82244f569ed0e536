"""Tasks that read a data set; inside a trial of Ray Tune they run in the trial's own process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray.util import get_current_placement_group


def in_trial() -> bool:
    """Whether this process is a trial of Tune's own `Tuner`, or another actor or task of a placement group.

    The group holds the CPUs of the trial and its learners. Tasks would be captured in it, or wait outside for a CPU
    that another trial holds; either way they may never start.
    """
    return get_current_placement_group() is not None


def start(function: Callable[..., Any], *inputs: Any) -> ray.ObjectRef:
    """A reference to `function(*inputs)`, references among `inputs` resolved: a task of one CPU.

    Inside a trial it runs here and now, and an error is raised by this call instead of `ray.get`.
    """
    if not in_trial():
        return _task(function).remote(*inputs)
    return ray.put(function(*(ray.get(x) if isinstance(x, ray.ObjectRef) else x for x in inputs)))


@cache
def _task(function: Callable[..., Any]) -> Any:
    return ray.remote(num_cpus=1)(function)
