"""Seconds, processor time and memory of a command, at several sizes of a log.

They are sampled. Processor time: user and system time of the command and of all of Ray's processes. Memory: the USS
(memory without shared memory) of the same processes, plus the shared memory in use of the object store.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from benchmarks.harness import prefrec

GB = 1e9
REQUESTS_A_USER = 250
#: Between samples: looking through the maps of all processes takes a tenth of a second.
SECONDS = 1.0


class Watch(threading.Thread):
    """Calls `look` inside `with`, after `seconds` each time, until it returns False."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self._seconds, self._end = seconds, threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        """Look until the end of `with`."""
        while not self._end.wait(self._seconds) and self.look():
            pass

    def look(self) -> bool:
        """Look once. Return whether to look again."""
        raise NotImplementedError


class Memory(Watch):
    """Samples this process and its descendants every second inside `with`.

    `samples`: bytes of the processes' own, bytes of the object store, and the value of `place`.
    """

    def __init__(self, place: Callable[[], int] = lambda: 0) -> None:
        super().__init__(SECONDS)
        self.samples: list[tuple[int, int, int]] = []
        self._processor: dict[psutil.Process, float] = {}
        self._place = place

    def look(self) -> bool:
        """Take a sample. Return True."""
        self.samples.append((*memory_in_use(), self._place()))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._processor[process] = times.user + times.system
        return True

    @property
    def processor_seconds(self) -> float:
        """Processor time of all processes below this one; what a process used after its last sample is missing."""
        return round(sum(self._processor.values()), 1)

    @property
    def peaks(self) -> dict[str, float]:
        """GB at the peak, and of the object store at its own."""
        everything, stores = (max(own + shared for own, shared, _ in self.samples), max(s for _, s, _ in self.samples))
        return {"peak_gb": round(everything / GB, 2), "peak_object_store_gb": round(stores / GB, 2)}


def memory_in_use() -> tuple[int, int]:
    """Bytes that the processes have for themselves, and bytes of the shared memory files that they map, each once."""
    me = psutil.Process()
    private, files = 0, {}
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            private += process.memory_full_info().uss
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                # Ray unlinks the object store's file at once: only descriptors still lead to it.
                if "/dev/shm/" in os.readlink(descriptor):
                    status = os.stat(descriptor)
                    files[status.st_ino] = status.st_blocks * 512
    return private, sum(files.values())


def folder_gb(folder: str | Path) -> float:
    """GB of the files in a folder and below it."""
    return round(sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / GB, 2)


def stage(
    *command: str, place: Callable[[], int] = lambda: 0, run: Callable[..., None] = prefrec
) -> tuple[dict[str, Any], Memory]:
    """Run one command of the product by `run`. Returns seconds, and peaks of memory in GB."""
    began = time.monotonic()
    with Memory(place) as memory:
        run(*command)
    seconds = {"seconds": round(time.monotonic() - began, 1), "processor_s": memory.processor_seconds}
    return {**seconds, **memory.peaks}, memory


def write_config(sections: dict[str, Any], million: float, source: str, folder: Path) -> str:
    """Write the sections of `million` million impressions, whose log is at `source`. Returns the file."""
    folder.mkdir(parents=True)
    sections["simulate"]["users"] = round(million * 1e6 / REQUESTS_A_USER)
    sections["prepare"]["source"]["path"] = source
    (folder / "config.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
    return str(folder / "config.yaml")


def each_size(
    millions: Sequence[float], stages: Callable[[float], Iterator[tuple[str, dict[str, Any]]]]
) -> Iterator[dict[str, Any]]:
    """Print a line per stage of each size, and yield all figures again after it."""
    sizes: dict[str, dict[str, Any]] = {}
    for million in millions:
        at = sizes.setdefault(f"{million:g}", {})
        for name, figures in stages(million):
            at[name] = figures
            print(f"{million:g} million impressions  {name:26} {figures}", flush=True)
            yield {"sizes": sizes}
