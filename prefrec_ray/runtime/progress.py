"""How far a stage of a command is: said to whoever calls it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that reports nothing."""
