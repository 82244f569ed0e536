"""An alias: the small file `ALIAS.json`, which names one of several folders and is replaced in one write.

Its key `target` is a folder, relative to the folder of the file. The owner of an alias may keep other keys there: they
change together with the target. A symbolic link on a disk is an alias too. A reader of several files resolves the
alias once, by `followed`, and reads all files from that folder: a link may move between two reads through it.
"""

from __future__ import annotations

import os
import posixpath
from typing import Any

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import exists, filesystem, make_room, read_json, write_json

_TARGET = "target"
#: Steps from alias to alias; more of them are a circle.
_MOST_STEPS = 16


def point(alias: str, target: str, **about: Any) -> None:
    """Make `alias` a name for the folder `target`, and keep the owner's keys `about` with it.

    A reader sees the old or the new file. Raises `UserError` if a folder or file has the name of the alias.
    """
    link = _link(alias)
    if link is None and exists(alias):
        raise UserError(f"{alias}: found a file or folder of that name; expected none, or an alias")
    write_json(make_room(_file(alias)), {_TARGET: target, **about})
    if link is not None:  # of version 0.1.0; the file counts from now on
        os.unlink(filesystem(alias)[1])


def read_alias(alias: str) -> dict[str, Any] | None:
    """Return the keys in the file of `alias`, or None without a file. Raises `UserError` for a damaged file."""
    file = _file(alias)
    if not exists(file):
        return None
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get(_TARGET), str):
        raise UserError(f"{file}: expected the key '{_TARGET}' with the name of a folder")
    return value


def followed(uri: str) -> str:
    """Return the folder that `uri` is an alias of at this moment, or `uri` itself if it is not an alias.

    Raises `UserError` for a damaged file, and for aliases that name each other.
    """
    place = str(uri)
    for _ in range(_MOST_STEPS):
        link = _link(place)
        if link is None and exists(place):
            return place
        about = read_alias(place)
        target = link if about is None else about[_TARGET]
        if target is None:
            return place
        place = _beside(place, target)
    raise UserError(f"{uri}: an alias of itself")


def _file(alias: str) -> str:
    return f"{str(alias).rstrip('/')}.json"


def _link(uri: str) -> str | None:
    """Return the target of the symbolic link `uri`, or None if it is not a link."""
    system, path = filesystem(uri)
    try:
        return os.readlink(path) if isinstance(system, fs.LocalFileSystem) else None
    except OSError:
        return None


def _beside(alias: str, target: str) -> str:
    """Return `target` as seen from the folder of `alias`."""
    scheme, slashes, path = (str(alias) if "://" in str(alias) else filesystem(alias)[1]).rpartition("://")
    return f"{scheme}{slashes}{posixpath.normpath(posixpath.join(posixpath.dirname(path.rstrip('/')), target))}"
