"""Plug-ins of installed packages, found by name, and a user's own objects, found by `module:Class`.

A package declares its plug-ins of a kind in the entry-point group `prefrec_ray.<kind>` of its pyproject.toml. A package
is imported only when one of its plug-ins is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from prefrec_ray.errors import UserError, nearest

PACKAGE = "prefrec-ray"
#: docs/add_a_method.md has the key of each kind in a YAML, and the form of its objects.
KINDS = ("estimators", "methods", "readers", "searchers", "submissions", "teachers", "worlds")


class Plugin(NamedTuple):
    """One entry point: kind, name, package with its version, and object path `module:Class`."""

    kind: str
    name: str
    package: str
    version: str
    path: str


def installed(kind: str) -> list[Plugin]:
    """Return the plug-ins of a kind by name, of all installed packages including this one."""
    return [plugin for plugin in _installed(tuple(sys.path)) if plugin.kind == kind]


@cache
def _installed(folders: tuple[str, ...]) -> list[Plugin]:
    """Return the plug-ins of the packages in `folders`, sys.path: a search takes a tenth of a second."""
    found, entries = set(), entry_points()
    for kind in KINDS:
        for entry in entries.select(group=f"prefrec_ray.{kind}"):
            package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("?", "?")
            found.add(Plugin(kind, entry.name, package, version, entry.value))
    return sorted(found)


def find(kind: str, name: str, own: Mapping[str, str]) -> Plugin:
    """Return the plug-in `name`, or the plug-in of `module:Class`. `own`: object paths of this package by name.

    Raises `ValueError` with the expected name: for an unknown name, and for one name in several packages.
    """
    if ":" in name:
        return Plugin(kind, name, "", "", name)
    known = [Plugin(kind, one, PACKAGE, "", path) for one, path in own.items()]
    known += [plugin for plugin in installed(kind) if plugin.package != PACKAGE or plugin.name not in own]
    matching = [plugin for plugin in known if plugin.name == name]
    if len(matching) > 1:
        raise ValueError(f"expected a name of one package, not of {' and '.join(one.package for one in matching)}")
    if not matching:
        names = sorted({plugin.name for plugin in known})
        raise ValueError(f"{nearest(name, names)} (or module:Class)" if names else "expected module:Class")
    return matching[0]


def check(kind: str, name: str, where: str, own: Mapping[str, str] = {}) -> Plugin:
    """Return `find` of the same arguments. Raises `UserError`, prefixed by `where`, instead of `ValueError`."""
    try:
        return find(kind, name, own)
    except ValueError as error:
        raise UserError(f"{where}: found '{name}'; {error}") from None


def load(kind: str, name: str, where: str, own: Mapping[str, str] = {}) -> Any:
    """Return the object of the plug-in `name`, or of `module:Class`.

    Raises `UserError` as `check` and `import_class` do, and for a package that cannot be imported.
    """
    plugin = check(kind, name, where, own)
    if not plugin.package:
        return import_class(name, where)
    try:
        return EntryPoint(name, plugin.path, kind).load()
    except Exception as error:  # a package's code may raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{where}: found '{name}' of the package {plugin.package} (cannot import {plugin.path}: {reason}); "
            "expected a package that can be imported"
        ) from error


def import_class(path: str, where: str) -> Any:
    """Return the attribute `Class` of the module in `path`, `module:Class`. The working folder is searched last.

    Raises `UserError`, prefixed by `where`, for text of another form, and for an import that fails.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise UserError(f"{where}: found '{path}'; expected module:Class")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # Ray passes the working folder on to workers
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{where}: found '{path}' (cannot import it: {reason}); expected module:Class") from error
