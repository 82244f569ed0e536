"""Processor time and memory of Ray's tasks, sampled from /proc. Linux only.

Processor time does not depend on other programs of the machine, unlike time on the clock.
"""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Seconds between two samples. A shorter task is counted for the task before or after it.
_INTERVAL = 0.05
_TICK = os.sysconf("SC_CLK_TCK")
#: Name of this process. Tasks have the names of their functions.
DRIVER = "driver"
#: Name of Ray's own processes, and of a worker before its first task.
SYSTEM = "system"


class Meter(threading.Thread):
    """Samples this process and its descendants inside `with`.

    seconds: processor seconds by name. memory: largest private memory of one process in bytes, by name.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds: dict[str, float] = defaultdict(float)
        self.memory: dict[str, int] = defaultdict(int)
        self._used: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Meter:
        self._sample()
        self.seconds.clear()  # of earlier work
        self.memory.clear()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self.join()
        self._sample()

    def run(self) -> None:
        """Sample until the end of `with`."""
        while not self._ended.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        for process in [os.getpid(), *_descendants(os.getpid())]:
            with suppress(OSError):  # it has ended
                used, memory = _use(process)
                name = self._names[process] = _name(process) or self._names.get(process, SYSTEM)
                self.seconds[name] += used - self._used.get(process, 0.0)
                self.memory[name] = max(self.memory[name], memory)
                self._used[process] = used


def _name(process: int) -> str | None:
    """Return the name of a process; None for a worker without a task, which finishes the work of its last one."""
    if process == os.getpid():
        return DRIVER
    title = _read(process, "cmdline").split("\0")[0]
    if not title.startswith("ray::"):
        return SYSTEM
    function = title.removeprefix("ray::").strip()
    return None if function == "IDLE" else function


def _use(process: int) -> tuple[float, int]:
    """Return processor seconds and private memory in bytes."""
    fields = _read(process, "stat").rpartition(")")[2].split()
    memory = re.search(r"RssAnon:\s+(\d+)", _read(process, "status"))
    return (int(fields[11]) + int(fields[12])) / _TICK, 1024 * int(memory[1]) if memory else 0


def _descendants(process: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in _read(process, f"task/{thread.name}/children").split():
                yield int(child)
                yield from _descendants(int(child))


def _read(process: int, file: str) -> str:
    return Path(f"/proc/{process}/{file}").read_text("utf-8", errors="replace")
