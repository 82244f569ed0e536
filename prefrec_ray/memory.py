"""Memory of this machine, with which sizes of files and settings are compared, and of the C library."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: Parameters of mallopt(3), with glibc's numbers.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest threshold of glibc, and a threshold that no step of a learner reaches.
_MMAP_BYTES, _TRIM_BYTES = 32 << 20, 1 << 30


def installed() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available() -> int:
    """Return the bytes of memory that a process can still use."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def text(size: float) -> str:
    """Return a number of bytes with its unit: 1.5 GB."""
    size = min(size, 10**24)  # a number in a YAML can be larger than any float
    for unit in ("bytes", "KB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:,.{0 if unit == 'bytes' else 1}f} {unit}"
        size /= 1000
    return f"{size:,.1f} EB"


def check_need(size: float, what: str) -> None:
    """Raise `ValueError` if this machine has less than the `size` bytes of memory that `what` (plural) need."""
    if size > installed():
        raise ValueError(f"{what} take {text(size)}; expected at most {text(installed())}, the memory of this machine")


def keep_freed_memory() -> None:
    """Keep freed memory in this process: take blocks of up to 32 MB from the heap, and shrink it only above 1 GB.

    By default glibc returns memory to the system repeatedly. A learner's step then causes about 10,000 page faults,
    each with 4 KB of zeros to write, instead of about 100. The change is permanent for the process. With another C
    library the function does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
