"""Import of a user's own classes by `module:Class`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from prefrec_ray.errors import UserError


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
