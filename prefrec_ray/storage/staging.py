"""Folders that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage.claims import claimed
from prefrec_ray.storage.files import exists, filesystem, make_folder, remove
from prefrec_ray.storage.stores import move_objects


@contextmanager
def staged(output: str, last: str) -> Iterator[str]:
    """Yield a folder to write to, which becomes `output` when the block succeeds and is removed when it fails.

    On a disk it is renamed. A store has no folders to rename, so its objects are moved one by one, the file `last`
    after all others; a reader that finds `last` finds every file. Remains of a killed process are removed by the next
    process that writes to `output`. Raises `UserError` if `output` already exists, or another process is about to write
    it.
    """
    with claimed(output) as temporary:
        if exists(output):
            raise UserError(f"{output}: already exists; choose another output folder or remove this one")
        make_folder(temporary)
        try:
            yield temporary
            system, target = filesystem(output)
            source = filesystem(temporary)[1]
            if isinstance(system, fs.LocalFileSystem):
                system.move(source, target)
            else:
                move_objects(system, source, target, last)
        except BaseException:
            remove(temporary)
            raise
