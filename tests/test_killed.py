"""The copies of killed.py are what killed processes leave."""

import os
import shutil
import signal
from pathlib import Path

from killed import killed_copies, run_child

from prefrec_ray import storage

WATCHED = ("storage",)


def write(folder: Path) -> None:
    """Write two files whole, and one through a buffer."""
    with (folder / "buffered").open("wb") as file:
        file.write(b"in the buffer")
        storage.write_text(str(folder / "whole"), "old")
        file.flush()
        storage.write_text(str(folder / "whole"), "new")
        file.write(b"in the buffer")
    storage.remove(str(folder / "buffered"))


def contents(folder: Path) -> list[tuple[str, bytes]]:
    """Return names, without their random parts, and contents of the files."""
    return sorted((path.name.partition(".")[0], path.read_bytes()) for path in folder.iterdir())


def test_copies_are_what_kills_leave(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    copies = [contents(copy) for copy in killed_copies(write, tmp_path / "folder", tmp_path / "copies", *WATCHED)]
    for number, expected in enumerate(copies, 1):

        def kill(change: int, last: int = number) -> None:
            if change == last:
                os.kill(os.getpid(), signal.SIGKILL)

        mine = tmp_path / "killed" / str(number)
        shutil.copytree(tmp_path / "folder", mine)
        ended = run_child(lambda folder=mine: write(folder), mine, WATCHED, kill)
        assert ended == (0 if number == len(copies) else -signal.SIGKILL)
        assert contents(mine) == expected
