"""An alias: a name for one of several folders, moved from one to another in a single step.

On a disk it is a symbolic link, `ALIAS`, that is replaced by a rename; in a store, which has no links, a small object,
`ALIAS.json`. Both name the target relative to the folder that they lie in. Whoever reads several files resolves the
alias once, by `followed`, and reads them all from there: files read through the alias itself may be of two targets.
"""

from __future__ import annotations

import os
import posixpath
import uuid
from pathlib import Path

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import exists, filesystem, join, read_json, write_json

_TARGET = "target"


def point(alias: str, target: str) -> None:
    """Makes `alias` a name for the folder `target` (relative to the alias's own): a reader sees the old or the new one.

    Raises `UserError` where something else has that name.
    """
    system, path = filesystem(alias)
    if not isinstance(system, fs.LocalFileSystem):
        write_json(_object(alias), {_TARGET: target})
        return
    link = Path(path)
    if link.exists() and not link.is_symlink():
        raise UserError(f"{alias}: found a file or folder of that name; expected none, or an alias")
    fresh = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    try:
        os.symlink(target, fresh)
        os.replace(fresh, link)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UserError(f"{alias}: no symbolic link can be made there ({error.strerror})") from error


def followed(uri: str) -> str:
    """The folder that `uri` is an alias of now; `uri` itself where it is none."""
    system, path = filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        try:
            target = os.readlink(path)
        except OSError:  # nothing there, or no link
            return str(uri)
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if not exists(_object(uri)):
        return str(uri)
    value = read_json(_object(uri))
    if not isinstance(value, dict) or not isinstance(value.get(_TARGET), str):
        raise UserError(f"{_object(uri)}: expected the key '{_TARGET}' with the name of a folder")
    return join(str(uri).rstrip("/").rpartition("/")[0], value[_TARGET])


def _object(alias: str) -> str:
    return f"{str(alias).rstrip('/')}.json"
