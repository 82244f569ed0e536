"""Memory of this machine, with which sizes of files and settings are compared."""

from __future__ import annotations

import os
from pathlib import Path


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
