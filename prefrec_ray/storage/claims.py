"""One writer at a time, and folders that appear whole or not at all.

A process writes a claim next to a folder before it writes there, and respects other claims.

A claim is a small file, `OUTPUT.<token>.claim`, with the host, process and time of its owner. Object stores have no
locks, so each process writes its claim first, then lists all claims, and wins only if it finds no other. If two
processes come together, the later one to list finds both claims. If a listing shows all earlier writes (local disks,
S3, Google Cloud), at most one process wins. If two start together, the one with the larger token gives up at once; the
other waits up to two seconds for that. The claim of a process of this host that has ended is removed, with its
half-written files. For a process of another host this cannot be decided, and the error names the owner.
"""

from __future__ import annotations

import ctypes
import os
import posixpath
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage import files

#: Seconds to wait until a process that started at the same time has given way.
PATIENCE = 2.0
_CLAIM, _PARTIAL = ".claim", ".partial"
#: Names of claims, and of claims that a process writes (`files.writing`), after the name of the output.
_CLAIMS = r"\.\w{8}" + re.escape(_CLAIM)
_UNWRITTEN = _CLAIMS + r"\.\w{8}" + re.escape(_PARTIAL)
_MOVES_AT_ONCE = 8
#: Linux: paths are relative to the current folder; exchange instead of rename.
_HERE, _EXCHANGE = -100, 2


@contextmanager
def claimed(output: str) -> Iterator[str]:
    """Claim `output` for this process, and yield a name for half-written files. Raises `UserError` if it is claimed."""
    base = str(output).rstrip("/")
    mine = f"{base}.{uuid.uuid4().hex[:8]}{_CLAIM}"
    _write(mine)
    try:
        _outlast_others(base, mine)
        for rest in _beside(base, _UNWRITTEN):  # of a killed process, or of one that writes its claim now (`_write`)
            files.remove(rest)
        yield mine.removesuffix(_CLAIM) + _PARTIAL
    finally:
        files.remove(mine)


@contextmanager
def staged(output: str, last: str) -> Iterator[str]:
    """Yield a folder to write to, which becomes `output` when the block succeeds and is removed when it fails.

    On a disk it is renamed. A store has no folders to rename, so its objects are moved one by one, the file `last`
    after all others; a reader that finds `last` finds every file. Remains of a killed process are removed by the next
    process that writes to `output`. Raises `UserError` if `output` already exists, or another process is about to write
    it.
    """
    with claimed(output) as temporary:
        if files.exists(output):
            raise UserError(f"{output}: already exists; choose another output folder or remove this one")
        files.make_folder(temporary)
        try:
            yield temporary
            system, target = files.filesystem(output)
            source = files.filesystem(temporary)[1]
            if isinstance(system, fs.LocalFileSystem):
                system.move(source, target)
            else:
                move_objects(system, source, target, last)
        except BaseException:
            files.remove(temporary)
            raise


@contextmanager
def fetched(uri: str) -> Iterator[str]:
    """Yield the local path of a file or folder, with its own name; objects of a store are copied for the block."""
    system, path = files.filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = f"{temporary}/{posixpath.basename(path)}"
        fs.copy_files(path, local, source_filesystem=system)
        yield local


def move_objects(system: fs.FileSystem, source: str, target: str, last: str) -> None:
    """Move all objects below `source` to `target`; `source/last` after all others have arrived."""
    infos = system.get_file_info(fs.FileSelector(source, recursive=True))
    names = [i.path.removeprefix(f"{source}/") for i in infos if i.type == fs.FileType.File]

    def copy(name: str) -> None:
        system.copy_file(f"{source}/{name}", f"{target}/{name}")

    with ThreadPoolExecutor(_MOVES_AT_ONCE) as pool:
        list(pool.map(copy, (name for name in names if name != last)))
    copy(last)
    system.delete_dir(source)


def exchange(one: str, other: str) -> None:
    """Exchange two folders in one step, if the file system can: a reader finds either of the two at each place."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        reason = os.strerror(ctypes.get_errno())
        raise UserError(f"{one}: cannot be replaced in one step ({reason}); expected a local disk")


def _write(claim: str) -> None:
    """Write a claim of this process."""
    owner = _owner()
    try:
        files.write_json(files.make_room(claim), owner)
    except FileNotFoundError:  # the winner has removed the half-written claim
        files.write_json(claim, owner)


def _outlast_others(base: str, mine: str) -> None:
    """Wait until no other claim than `mine` is left. Raises `UserError` if one stays."""
    limit = time.monotonic() + PATIENCE
    while others := [claim for claim in _beside(base, _CLAIMS) if claim != mine and not _cleared(claim)]:
        if min(others) < mine or time.monotonic() > limit:
            owner = _read(others[0]) or {"process": "?", "host": "?", "since": "?"}
            raise UserError(
                f"{base}: process {owner['process']} on {owner['host']} writes there since {owner['since']}; stop it,"
                f" or wait for it (if it has ended, remove {others[0]})"
            )
        time.sleep(0.05)


def _beside(base: str, ending: str) -> list[str]:
    """Return the files next to `base` whose names are its name and a match of `ending`, sorted."""
    folder, name = posixpath.split(base if "://" in base else files.absolute(base))
    ours = re.compile(re.escape(name) + ending)
    found = [posixpath.basename(file) for file in files.list_files(folder)]
    return sorted(base + one[len(name) :] for one in found if ours.fullmatch(one))


def _cleared(claim: str) -> bool:
    """Remove the claim if its process has ended. Returns whether the claim is gone."""
    owner = _read(claim)
    if owner is None:
        return not files.exists(claim)
    if owner["machine"] != _machine() or _start_of(owner["process"]) == owner["started"]:
        return False
    files.remove(claim.removesuffix(_CLAIM) + _PARTIAL)
    files.remove(claim)
    return True


def _read(claim: str) -> dict[str, Any] | None:
    """Return the owner of a claim, or None if it was just released or is damaged."""
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
    """Return a text that is equal for processes of one host, since its last start, in one container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def _start_of(process: int) -> str | None:
    """Return the start time of a process, None if it has ended. Process numbers are used again, start times are not."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]
