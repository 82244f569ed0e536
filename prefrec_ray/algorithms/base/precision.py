"""Choice between bf16 and float32, by a measurement in the process that trains.

Processors without instructions for bfloat16 emulate it, many times slower than float32.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cache

import torch

#: Rows and width of the measured product: a small mini-batch and the default `hidden_sizes`.
_ROWS, _WIDTH = 512, 256
#: Seconds of each measurement.
_SECONDS = 0.1

_LOG = logging.getLogger(__name__)


def settled(precision: str, resources: Mapping[str, float], here: bool) -> str:
    """Return `float32` or `bf16_always`: for `bf16` the faster one, with a warning if this is float32.

    `resources` are Ray's resources of a process that trains. `here` is True for this process.
    """
    if precision != "bf16":
        return precision
    gpu = resources.get("GPU", 0) > 0
    ratio = bf16_ratio(gpu) if here else _measured_elsewhere(resources, gpu)
    if ratio < 1:
        return "bf16_always"
    reason = (
        f"takes {ratio:.1f} times as long as float32 on this processor" if ratio < math.inf else "is not on this GPU"
    )
    _LOG.warning("precision: bf16 %s: training in float32 (bf16_always trains in bf16 all the same)", reason)
    return "float32"


@cache
def bf16_ratio(gpu: bool) -> float:
    """Return the time of a matrix product in bfloat16, divided by its time in float32; infinity for a GPU without it.

    A GPU that has bfloat16 is not measured.
    """
    if gpu:
        return 0.0 if torch.cuda.is_bf16_supported(including_emulation=False) else math.inf
    from torch.utils.benchmark import Timer  # on demand: imports the C++ extensions, a tenth of a second

    exact, rounded = (
        # One thread: several would wait for each other if another process is busy.
        Timer("left @ right", globals={"left": rows, "right": weights}, num_threads=1)
        .blocked_autorange(min_run_time=_SECONDS)
        .median
        for kind in (torch.float32, torch.bfloat16)
        for rows, weights in [(torch.ones(_ROWS, _WIDTH, dtype=kind), torch.ones(_WIDTH, _WIDTH, dtype=kind))]
    )
    return rounded / exact


def _measured_elsewhere(resources: Mapping[str, float], gpu: bool) -> float:
    """Return `bf16_ratio` of a process with `resources`."""
    import ray  # on demand: a second

    custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
    cpus, gpus = resources.get("CPU", 1), resources.get("GPU", 0)
    task = ray.remote(lambda: bf16_ratio(gpu)).options(num_cpus=cpus, num_gpus=gpus, resources=custom)
    return float(ray.get(task.remote()))
