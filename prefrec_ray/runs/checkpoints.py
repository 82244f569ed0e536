"""Checkpoints of a run: written whole, checked before they are used, the last ones and the best kept.

RUN/checkpoint_000012/manifest.json names every other file with its size and checksum, and is written last.
"""

from __future__ import annotations

import logging
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError

MANIFEST = "manifest.json"

_LOG = logging.getLogger(__name__)


def save_checkpoint(algorithm: Any, run: str, keep: int, score: float | None = None) -> None:
    """Saves the algorithm's state after its last iteration; `keep` checkpoints stay, and the one of highest `score`."""
    target = storage.join(run, f"checkpoint_{algorithm.iteration:06d}")
    storage.remove(target)
    with storage.staged(target, MANIFEST) as folder, tempfile.TemporaryDirectory() as temporary:
        system, path = storage.filesystem(folder)
        on_disk = isinstance(system, fs.LocalFileSystem)
        local = path if on_disk else temporary
        algorithm.save_to_path(local)
        files = {name: _fingerprint(Path(local, name)) for name in _files(local)}
        if not on_disk:
            fs.copy_files(local, path, destination_filesystem=system)
        storage.write_json(
            storage.join(folder, MANIFEST), {"iteration": algorithm.iteration, "score": score, "files": files}
        )
    everything = checkpoints(run)
    for old in set(everything[:-keep]) - {best_checkpoint(run)}:
        storage.remove(old)


def checkpoints(run: str) -> list[str]:
    """All checkpoints of a run, whole or not, oldest first."""
    return [uri for uri in storage.list_folders(run) if re.fullmatch(r"checkpoint_\d+", uri.rsplit("/", 1)[-1])]


def best_checkpoint(run: str) -> str | None:
    """The checkpoint of the highest score, the later of equal ones; None where none has a score."""
    scores = {uri: _score(uri) for uri in checkpoints(run)}
    scored = [(score, uri) for uri, score in scores.items() if score is not None]
    return max(scored)[1] if scored else None


@contextmanager
def latest_checkpoint(run: str) -> Iterator[tuple[str, str] | None]:
    """(URI, local folder) of the newest whole checkpoint, or None; damaged ones are skipped with a warning each."""
    for uri in reversed(checkpoints(run)):
        with fetched(uri) as local:
            problem = damage(local)
            if problem is None:
                yield uri, local
                return
        _LOG.warning("%s: damaged (%s); going on from the checkpoint before", uri, problem)
    yield None


@contextmanager
def fetched(uri: str) -> Iterator[str]:
    """A folder of this machine that holds the files of the checkpoint `uri`."""
    system, path = storage.filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        fs.copy_files(path, temporary, source_filesystem=system)
        yield temporary


def damage(folder: str) -> str | None:
    """What is wrong with the checkpoint in a folder of this machine, in a few words; None where nothing is."""
    try:
        files = storage.read_json(storage.join(folder, MANIFEST))["files"]
    except (UserError, KeyError, TypeError):
        return f"no readable {MANIFEST}"
    for name, expected in files.items():
        file = Path(folder, name)
        if not file.is_file():
            return f"{name} is missing"
        if _fingerprint(file) != expected:
            return f"{name} is not as it was written"
    return None


def _score(uri: str) -> float | None:
    try:
        return storage.read_json(storage.join(uri, MANIFEST)).get("score")
    except UserError:
        return None


def _files(folder: str) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*") if file.is_file())


def _fingerprint(file: Path) -> list[int]:
    """Size in bytes, and CRC-32."""
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return [file.stat().st_size, checksum]
