"""Memory of the C library: freed memory stays in the process, because a training loop needs it again at once."""

from __future__ import annotations

import ctypes
import sys

#: Parameters of mallopt(3), with glibc's numbers.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest threshold of glibc, and a threshold that no step of a learner reaches.
_MMAP_BYTES, _TRIM_BYTES = 32 << 20, 1 << 30


def keep_freed_memory() -> None:
    """Take blocks of up to 32 MB from the heap, and shrink the heap only if more than 1 GB is free.

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
