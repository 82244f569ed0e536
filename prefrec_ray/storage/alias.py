"""Aliases: the small file `ALIAS.json` names one of several folders, and is replaced in one write.

Its key `target` is a folder, relative to the folder of the file, or empty before the first one. The owner of an alias
may add other keys, which change together with the target. A reader of several files resolves the alias once, by
`followed`, and reads all files from that folder, since an alias may change between two reads.
"""

from __future__ import annotations

import posixpath
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.storage.checksums import open_json, seal_json
from prefrec_ray.storage.files import exists, filesystem, make_room, read_text, write_text

_TARGET = "target"


def point(alias: str, target: str, **about: Any) -> None:
    """Let `alias` point to the folder `target`, in one write. Raises `UserError` if something else has its name."""
    if exists(alias):
        raise UserError(f"{alias}: found a file or folder of that name; expected none, or an alias")
    write_text(make_room(_file(alias)), seal_json({_TARGET: target, **about}, indent=2, end="\n"))


def read_alias(alias: str) -> dict[str, Any] | None:
    """Return the keys in the file of `alias`, or None without a file. Raises `UserError` for a damaged file."""
    file = _file(alias)
    if not exists(file):
        return None
    value = open_json(read_text(file), file)
    if not isinstance(value, dict) or not isinstance(value.get(_TARGET), str):
        raise UserError(f"{file}: expected the key '{_TARGET}' with the name of a folder")
    return value


def followed(uri: str) -> str:
    """Return the target of the alias `uri`, else `uri` itself. Raises `UserError` for a damaged file."""
    about = None if exists(uri) else read_alias(uri)
    return beside(uri, about[_TARGET]) if about and about[_TARGET] else str(uri)


def beside(alias: str, target: str) -> str:
    """Return `target` relative to the folder of `alias`."""
    scheme, slashes, path = (str(alias) if "://" in str(alias) else filesystem(alias)[1]).rpartition("://")
    return f"{scheme}{slashes}{posixpath.normpath(posixpath.join(posixpath.dirname(path.rstrip('/')), target))}"


def _file(alias: str) -> str:
    return f"{str(alias).rstrip('/')}.json"
