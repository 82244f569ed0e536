"""Progress of the stages of a command, reported to a callback.

A stage is named by its work and the unit that it counts: "group by user: files". A stage without a unit is one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

#: Called with a stage, the number of units done, and their total (0: unknown). The first call begins the stage.
Progress = Callable[[str, int, int], None]


class Report(Protocol):
    """A `Progress` that shows a `note` after the figures."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore a report."""


@contextmanager
def step(progress: Progress, stage: str) -> Iterator[None]:
    """Report begin and end of a stage that is one step."""
    progress(stage, 0, 1)
    yield
    progress(stage, 1, 1)
