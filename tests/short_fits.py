"""Limits of the updates of an evaluation's fits, for tests that do not depend on their quality.

tests/users, test_preference.py and test_clone.py test the quality.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

USERS, EVALUATION = "prefrec_ray.users", "prefrec_ray.evaluation"
#: Ray tasks, and the values of constants in their workers.
LIMITS = {
    f"{USERS}.ensemble._fit": {
        f"{USERS}.fit.UPDATES": 50,
        f"{USERS}.checks.SIMULATIONS": 2,
        f"{USERS}.checks.USERS": 20,
    },
    f"{EVALUATION}.selection.preference._learn": {f"{EVALUATION}.selection.preference.UPDATES": 50},
    f"{EVALUATION}.behavior._fit": {f"{EVALUATION}.behavior.CLONE_UPDATES": 150},
}


@contextmanager
def limited_fits() -> Iterator[None]:
    """Limit the fits that this process starts in Ray's workers."""
    with ExitStack() as limits:
        for task, constants in LIMITS.items():
            limits.enter_context(patch(task, _limited(task, constants)))
        yield


def _limited(task: str, constants: dict[str, int]) -> Any:
    """Return the Ray task `task` with these values of constants, which its worker sets."""
    import ray

    def run(*arguments: Any) -> Any:
        with ExitStack() as limits:
            for name, value in constants.items():
                limits.enter_context(patch(name, value))
            return inspect.unwrap(resolve_name(task).remote)(*arguments)

    return ray.remote(num_cpus=1)(run)
