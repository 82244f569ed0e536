"""Folder of a run or sweep that may be resumed, and its checkpoints: written atomically, and checked before use.

RUN/checkpoint_000012/manifest.json names every other file with its size and checksum, and is written last.
RUN/checkpoint_000012/result.json has the run's rows up to this iteration: no other file is needed to resume.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.storage.checksums import MANIFEST, damage, seal

ROWS = "result.json"

_LOG = logging.getLogger(__name__)


def check_output(output: str, name: str, described: Mapping[str, Any], resume: bool) -> dict[str, Any]:
    """Check the folder of a run or sweep that begins or is resumed, and return the content of its first file `name`.

    The file has the settings `described`. Empty for a new folder. Raises `UserError` if `output` exists (without
    `resume`), has other content, or was started with other settings.
    """
    if not storage.exists(output):
        return {}
    if not resume:
        raise UserError(f"{output}: already exists; continue it by --resume, or choose another output folder")
    file = storage.join(output, name)
    if not storage.exists(file):
        # A killed process may leave its first file half-written. In any other folder a resumed one, which removes
        # half-written files, could remove those of somebody else.
        names = [uri.rsplit("/", 1)[-1] for uri in (*storage.list_folders(output), *storage.list_files(output))]
        if not all(there.startswith(f"{name}.") for there in names):
            raise UserError(f"{output}: nothing to resume (no {name} in it); choose another output folder")
        return {}
    before = read_description(file)
    # Converted through JSON like the file, in which tuples have become lists.
    for key, value in json.loads(json.dumps(described)).items():
        if (changed := _changed(key, before.get(key), value)) is not None:
            raise UserError(f"{output}: started with {changed}; expected the same settings")
    return before


def read_description(file: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return the first file of a run or sweep. Raises `UserError` if it is not an object with these `keys`."""
    found = storage.read_json(file)
    if not isinstance(found, dict):
        raise UserError(f"{file}: found {type(found).__name__}; expected the settings of a run or sweep")
    for key in keys:
        if key not in found:
            raise UserError(f"{file}: key '{key}' is missing; expected the settings of a run or sweep")
    return found


def _changed(key: str, before: Any, now: Any) -> str | None:
    """Return the first setting that differs, with both values; None if all are equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        inner = (_changed(f"{key}.{one}", before.get(one), now.get(one)) for one in {**before, **now})
        return next(filter(None, inner), None)
    return None if before == now else f"{key} = {before!r}, resumed with {now!r}"


def save_checkpoint(
    algorithm: Any, run: str, keep: int, rows: Sequence[dict[str, Any]], best: int | None = None
) -> None:
    """Save the algorithm's state after its last iteration, and all `rows` up to it.

    `keep` checkpoints and the checkpoint of the iteration `best` stay. Raises `UserError` if a weight is not finite.
    """
    target = checkpoint_of(run, algorithm.iteration)
    storage.remove(target)
    with storage.staged(target, MANIFEST) as folder, tempfile.TemporaryDirectory() as temporary:
        system, path = storage.filesystem(folder)
        on_disk = isinstance(system, fs.LocalFileSystem)
        local = path if on_disk else temporary
        algorithm.save_to_path(local)
        storage.write_text(storage.join(local, ROWS), "".join(json.dumps(row) + "\n" for row in rows))
        seal(local)
        if not on_disk:
            fs.copy_files(local, path, destination_filesystem=system)
    for old in checkpoints(run)[:-keep]:
        if best is None or old != checkpoint_of(run, best):
            storage.remove(old)


def read_rows(folder: str) -> list[dict[str, Any]]:
    """Return the rows in the result.json of a checkpoint or trial."""
    return [json.loads(line) for line in storage.read_text(storage.join(folder, ROWS)).splitlines()]


def write_rows(output: str, rows: list[dict[str, Any]]) -> None:
    """Write progress.csv and result.json of the run's folder `output`."""
    storage.write_csv(storage.join(output, "progress.csv"), rows)
    storage.write_text(storage.join(output, ROWS), "".join(json.dumps(row) + "\n" for row in rows))


def restore(algorithm: Any, output: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Restore the algorithm from the newest complete checkpoint, and return the rows up to it."""
    # Half-written files of a killed run; no other process writes to this folder.
    for leftover in (*storage.list_folders(output), *storage.list_files(output)):
        if leftover.endswith((".partial", ".claim")):
            storage.remove(leftover)
    rows: list[dict[str, Any]] = []
    with first_whole(reversed(checkpoints(output))) as newest:
        if newest is not None:
            check_own(newest[1])
            algorithm.restore_from_path(newest[1])
            rows = read_rows(newest[1])
            write_rows(output, rows)
        elif any(storage.exists(storage.join(uri, MANIFEST)) for uri in checkpoints(output)):
            raise UserError(f"{output}: no checkpoint is complete and of this version; remove them to start again")
    # Checkpoints after it are damaged, or were never finished; they will be written again.
    for later in checkpoints(output):
        if later > checkpoint_of(output, algorithm.iteration):
            storage.remove(later)
    say(f"resuming from iteration {algorithm.iteration}" if rows else "no complete checkpoint: from the start")
    return rows


def checkpoint_of(run: str, iteration: int) -> str:
    """Return the path of the checkpoint after an iteration."""
    return storage.join(run, f"checkpoint_{iteration:06d}")


def checkpoints(run: str) -> list[str]:
    """Return all checkpoints of a run, complete or not, oldest first."""
    return [uri for uri in storage.list_folders(run) if re.fullmatch(r"checkpoint_\d+", uri.rsplit("/", 1)[-1])]


@contextmanager
def first_whole(uris: Iterable[str]) -> Iterator[tuple[str, str] | None]:
    """Yield (URI, local folder) of the first complete checkpoint, or None. Damaged ones are skipped with a warning."""
    for uri in uris:
        with storage.fetched(uri) as local:
            problem = damage(local)
            if problem is None:
                yield uri, local
                return
        _LOG.warning("%s: damaged (%s); skipped", uri, problem)
    yield None


def check_own(uri: str) -> None:
    """Raise `UserError` for a file in the folder `uri` that another user owns. Object stores are not checked.

    The expected owner is the owner of a file that this process writes there, because network file systems may change
    it.
    """
    system, folder = storage.filesystem(uri)
    if not isinstance(system, fs.LocalFileSystem):
        return
    with tempfile.TemporaryFile(dir=folder) as probe:
        mine = os.fstat(probe.fileno()).st_uid
    for file in Path(folder).rglob("*"):
        if (owner := file.lstat().st_uid) != mine:
            raise UserError(
                f"{file}: found a file of user {owner}, and checkpoints run code when they are loaded; expected a run "
                f"of your own (if you trust this one, use a copy of it)"
            )
