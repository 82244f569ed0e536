"""Copies of a folder as a killed process leaves it, one copy for each change of the folder.

A killed process leaves its files as they are at that moment: written bytes belong to the system, and buffers are
lost. So a child process looks at the folder before every line of some modules, and copies it after each change.
`test_killed.py` compares the copies with folders of processes that are killed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import prefrec_ray

PACKAGE = Path(prefrec_ray.__file__).parent


def killed_copies(act: Callable[[Path], object], folder: Path, copies: Path, *watched: str) -> Iterator[Path]:
    """Yield a copy of `folder` for each change that `act` makes: as a kill leaves it, and at the end as `act` does.

    The copies take each other's place, where `act` had the folder. `watched`: modules or packages of prefrec_ray that
    make the changes.
    """
    place = copies / "place" / folder.name
    shutil.copytree(folder, place)

    def copy(number: int) -> None:
        shutil.copytree(place.parent, copies / f"{number}")

    assert run_child(lambda: act(place), place.parent, watched, copy) == 0
    changes = len(list(copies.iterdir())) - 1
    assert changes >= 3
    shutil.copytree(place.parent, copies / f"{changes + 1}")
    for number in range(1, changes + 2):
        shutil.rmtree(place.parent)
        (copies / f"{number}").rename(place.parent)
        yield place


def run_child(
    act: Callable[[], object], folder: Path, watched: tuple[str, ...], on_change: Callable[[int], object]
) -> int:
    """Run `act` in a child process that calls `on_change` with the number of each change of `folder`, from 1.

    Returns its exit status, which is negative if a signal ended it.
    """
    child = os.fork()
    if child == 0:
        try:
            sys.settrace(_watch(folder, watched, on_change))
            act()
            sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _watch(folder: Path, watched: tuple[str, ...], on_change: Callable[[int], object]) -> Any:
    """Return a trace function that calls `on_change` after changes of `folder`."""
    last, changes = _files(folder), 0
    places = tuple(str(PACKAGE / name) for name in watched)

    def at_line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal last, changes
        if not frame.f_code.co_filename.startswith(places):
            return None
        if (now := _files(folder)) != last:
            last, changes = now, changes + 1
            on_change(changes)
        return at_line

    return at_line


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """List all files and folders below `folder`, with inodes and sizes."""
    found, folders = [], [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    folders.append(entry.path)
                size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                found.append((entry.path, entry.inode(), size))
    return sorted(found)
