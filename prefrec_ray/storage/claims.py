"""One writer at a time: who writes to a folder lays a claim beside it, and who finds another's claim there gives way.

A claim is a small file, `OUTPUT.<token>.claim`, with its owner's host, process and time. No file system is asked for
locks, since stores have none: each contender first writes its claim, then lists all claims, and wins only where it
sees none but its own. Of two that come together the later one to list sees both claims, so that at most one wins
wherever a listing shows what was written before (local disks, S3, Google Cloud); normally exactly one does, because
the one with the larger token gives way at once and the other waits for that. A claim of a process of this host that
has ended is cleared away with what it left half-written; of another host's nobody here can tell, and its owner is
named.
"""

from __future__ import annotations

import os
import posixpath
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.storage import files

#: Seconds in which a contender that came at the same time gives way.
PATIENCE = 2.0
_CLAIM, _PARTIAL = ".claim", ".partial"


@contextmanager
def claimed(output: str) -> Iterator[str]:
    """Keeps others from writing to `output` while the block runs; yields a name beside it for what is half-written.

    Raises `UserError` where another process has a claim.
    """
    base = str(output).rstrip("/")
    mine = f"{base}.{uuid.uuid4().hex[:8]}{_CLAIM}"
    files.write_json(files.make_room(mine), _owner())
    try:
        _outlast_others(base, mine)
        yield mine.removesuffix(_CLAIM) + _PARTIAL
    finally:
        files.remove(mine)


def _outlast_others(base: str, mine: str) -> None:
    """Returns when no claim but `mine` is left. Raises `UserError` where one stays."""
    limit = time.monotonic() + PATIENCE
    while others := [claim for claim in _claims(base) if claim != mine and not _cleared(claim)]:
        if min(others) < mine or time.monotonic() > limit:
            owner = _read(others[0]) or {"process": "?", "host": "?", "since": "?"}
            raise UserError(
                f"{base}: process {owner['process']} on {owner['host']} writes there since {owner['since']}; wait for"
                f" it, or choose another output folder (should it have ended, remove {others[0]})"
            )
        time.sleep(0.05)


def _claims(base: str) -> list[str]:
    folder, name = posixpath.split(base if "://" in base else files.absolute(base))
    claims = files.list_files(folder, _CLAIM)
    here = [claim for claim in claims if posixpath.basename(claim).rpartition(f"{_CLAIM}")[0][:-9] == name]
    return sorted(f"{base}{claim[-len('.12345678' + _CLAIM) :]}" for claim in here)


def _cleared(claim: str) -> bool:
    """Whether the claim is gone, or was a dead process's and is so now."""
    owner = _read(claim)
    if owner is None:
        return not files.exists(claim)
    if owner["machine"] != _machine() or _start_of(owner["process"]) == owner["started"]:
        return False
    files.remove(claim.removesuffix(_CLAIM) + _PARTIAL)
    files.remove(claim)
    return True


def _read(claim: str) -> dict[str, Any] | None:
    """Its owner; None where it was released in this moment, or is damaged."""
    try:
        owner = files.read_json(claim)
    except UserError:
        return None
    known = isinstance(owner, dict) and set(_owner()) <= set(owner) and isinstance(owner["process"], int)
    return owner if known else None


def _owner() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _start_of(os.getpid()),
        "machine": _machine(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _machine() -> str:
    """Equal for processes that see each other's numbers: one host, since its start, in one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # no Linux
        return socket.gethostname()


def _start_of(process: int) -> str | None:
    """When the process began, by the system's clock, so that a number given again is told apart; None if it has ended.

    Where the system does not say (no Linux), "running".
    """
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
