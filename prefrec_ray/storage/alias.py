"""Aliases: the small file `ALIAS.json` names one of several folders, and is replaced in one write.

Its key `target` is a folder, relative to the folder of the file, or empty before the first one. The owner of an alias
may add other keys, which change together with the target. A symbolic link on a disk is an alias too. A reader of
several files resolves the alias once, by `followed`, and reads all files from that folder, since a link may move
between two reads.
"""

from __future__ import annotations

import os
import posixpath
from typing import Any

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import exists, filesystem, make_room, read_json, write_json

_TARGET = "target"
#: Most aliases that lead from one to the next; more of them are a circle.
_MOST_STEPS = 16


def point(alias: str, target: str, **about: Any) -> None:
    """Let `alias` point to the folder `target`, with the owner's keys `about`.

    A reader sees the old or the new file. Raises `UserError` if a folder or file has the name of the alias.
    """
    link = _link(alias)
    if link is None and exists(alias):
        raise UserError(f"{alias}: found a file or folder of that name; expected none, or an alias")
    write_json(make_room(_file(alias)), {_TARGET: target, **about})
    if link is not None:  # from version 0.1.0; the file replaces it
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
    """Return the current target folder if `uri` is an alias, else `uri` itself.

    Raises `UserError` for a damaged file, and for aliases that point to each other.
    """
    place = str(uri)
    for _ in range(_MOST_STEPS):
        link = _link(place)
        if link is None and exists(place):
            return place
        about = read_alias(place)
        target = link if about is None else about[_TARGET]
        if not target:  # no alias, or an alias that points to nothing yet
            return place
        place = beside(place, target)
    raise UserError(f"{uri}: found an alias of itself; expected a folder")


def _file(alias: str) -> str:
    return f"{str(alias).rstrip('/')}.json"


def _link(uri: str) -> str | None:
    """Return the target of the symbolic link `uri`, or None if it is not a link."""
    system, path = filesystem(uri)
    try:
        return os.readlink(path) if isinstance(system, fs.LocalFileSystem) else None
    except OSError:
        return None


def beside(alias: str, target: str) -> str:
    """Return `target` relative to the folder of `alias`."""
    scheme, slashes, path = (str(alias) if "://" in str(alias) else filesystem(alias)[1]).rpartition("://")
    return f"{scheme}{slashes}{posixpath.normpath(posixpath.join(posixpath.dirname(path.rstrip('/')), target))}"
