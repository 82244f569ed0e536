"""Freed memory stays in the process."""

from __future__ import annotations

import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from prefrec_ray.acceleration import keep_freed_memory

BLOCK, BLOCKS = 4 << 20, 50


def page_faults(keep: bool) -> int:
    """Return the page faults of a loop that allocates and frees blocks, after a first allocation of all of them."""
    if keep:
        keep_freed_memory()
    for _ in range(2):
        held = [np.ones(BLOCK, dtype=np.uint8) for _ in range(4)]
        del held
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(BLOCKS):
        held = [np.ones(BLOCK, dtype=np.uint8) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries decide for themselves")
def test_a_loop_meets_few_page_faults() -> None:
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        default_faults, kept_faults = pool.map(page_faults, (False, True))
    pages = BLOCKS * 4 * BLOCK // 4096
    assert default_faults > pages // 10
    assert kept_faults < pages // 100
