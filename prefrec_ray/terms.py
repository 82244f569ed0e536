"""Words that many modules share: tasks, splits, pairings, recipes, and the callback for progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

#: What a policy is to increase: the level of session depth, of frequency, or of their mixture (Eq. 11).
Task = Literal["depth", "frequency", "mixture"]
Split = Literal["train", "validation", "test"]
#: Which segments a teacher compares: of two different users, or of one.
Pairing = Literal["any_users", "within_user"]
#: Named sets of defaults (algorithms/settings.py).
Recipe = Literal["paper", "robust"]

TASKS: tuple[Task, ...] = get_args(Task)
#: A user's split is stored as an index into these.
SPLITS: tuple[Split, ...] = get_args(Split)
PAIRINGS: tuple[str, ...] = get_args(Pairing)
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that reports nothing."""
