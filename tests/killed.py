"""Child processes that are killed at each change of a folder, one change later each time.

A child looks at the folder before every line of some modules, and kills itself by SIGKILL at the n-th change that it
finds. n grows until the child ends by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

import prefrec_ray

PACKAGE = Path(prefrec_ray.__file__).parent
Copied = TypeVar("Copied")


def killed_copies(act: Callable[[Path], object], folder: Path, copies: Path, *watched: str) -> Iterator[Path]:
    """Yield copies of `folder`. In each one `act` was killed one change later than in the last; in the last one never.

    `watched`: modules or packages of prefrec_ray that make the changes.
    """

    def copy(number: int) -> Path:
        return shutil.copytree(folder, copies / str(number) / folder.name)

    yield from killed_at_each_change(act, copy, lambda mine: _files(mine.parent), watched, least=3, most=300)


def killed_at_each_change(
    act: Callable[[Copied], object],
    copy: Callable[[int], Copied],
    files: Callable[[Copied], object],
    watched: tuple[str, ...],
    least: int,
    most: int,
) -> Iterator[Copied]:
    """Yield a `copy` for each change of its `files`: `act` was killed at this change, in the last copy never.

    Fails unless `act` makes at least `least` and less than `most` - 1 changes.
    """
    for number in range(1, most):
        mine = copy(number)
        killed = kill_at_change(lambda mine=mine: act(mine), lambda mine=mine: files(mine), watched, number)
        yield mine
        if not killed:
            assert number > least
            return
    pytest.fail("the child did not end by itself")


def kill_at_change(
    act: Callable[[], object], files: Callable[[], object], watched: tuple[str, ...], number: int
) -> bool:
    """Run `act` in a child that is killed at the change of this number in `files`; return False if it ended before."""
    child = os.fork()
    if child == 0:
        try:
            sys.settrace(_killer(files, watched, number))
            act()
            sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _killer(files: Callable[[], object], watched: tuple[str, ...], number: int) -> Any:
    """Return a trace function that kills the process at a change of `files`."""
    last, changes = files(), 0
    places = tuple(str(PACKAGE / name) for name in watched)

    def at_line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal last, changes
        if not frame.f_code.co_filename.startswith(places):
            return None
        if (now := files()) != last:
            last, changes = now, changes + 1
            if changes == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_line

    return at_line


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """List all files and folders below `folder`, with inodes and sizes."""
    found = []
    for place, _, _ in os.walk(folder):
        with os.scandir(place) as entries:
            found += [(entry.path, entry.inode(), entry.stat().st_size if entry.is_file() else 0) for entry in entries]
    return sorted(found)
