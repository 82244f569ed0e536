"""The C library's memory: what a loop frees stays with the process, because the loop will want it again at once."""

from __future__ import annotations

import ctypes
import sys

#: Of mallopt(3), as glibc numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest that glibc takes, and so much that no step of a learner gives memory back.
_MMAP_BYTES, _TRIM_BYTES = 32 << 20, 1 << 30


def keep_freed_memory() -> None:
    """Blocks of up to 32 MB are cut from the heap, and the heap shrinks only where more than 1 GB of it is free.

    By default glibc gives memory back to the system again and again: a learner's step then meets some ten thousand page
    faults, each with 4 KB of zeros to write, where it now meets a hundred (docs/results/speed.md). For the whole
    process, for good; does nothing where the C library is another.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
