"""Waits of tests, which are longer on a busy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def soon(seconds: float = 30.0) -> float:
    """`seconds` of a machine that has nothing else to do: more by the load per core."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def until(look: Callable[[], Found], seconds: float) -> Found:
    """Return the first true result of `look`; AssertionError after `seconds` on an idle machine."""
    ends = time.monotonic() + soon(seconds)
    while not (result := look()):
        assert time.monotonic() < ends, f"{look} found nothing in {seconds:.0f} s"
        time.sleep(0.5)
    return result
