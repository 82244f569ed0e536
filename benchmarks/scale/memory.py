"""Seconds, memory and disk of a `prepare`.

Memory is sampled ten times a second: the USS (memory without shared memory) of the driver and of all of Ray's
processes, plus the shared memory in use of the object store.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.runtime import start_ray

GB = 1e9


class Memory(threading.Thread):
    """Samples this process and its descendants every so many seconds, inside `with` or from `start` to `end`.

    `samples`: bytes of the processes' own, bytes of the object store, and what `place` says. `lap` is the peak since it
    was last set to 0. `busy` are seconds of processor time by process, without the sampling: what the work takes,
    however busy the machine is with other things.
    """

    def __init__(self, every: float = 0.1, place: Callable[[], int] = lambda: 0) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[int, int, int]] = []
        self.lap = 0
        self.busy: dict[int, float] = {}
        self._every, self._place = every, place
        self._end = threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()

    def run(self) -> None:
        """Samples until `end`."""
        while not self._end.wait(self._every):
            own, shared = memory_in_use(self.busy)
            self.samples.append((own, shared, self._place()))
            self.lap = max(self.lap, own + shared)
            self.busy[os.getpid()] -= time.thread_time()

    def end(self) -> None:
        """No more samples."""
        self._end.set()
        self.join()

    @property
    def peaks(self) -> dict[str, float]:
        """GB at the peak, and of the object store at its own."""
        everything, stores = (max(own + shared for own, shared, _ in self.samples), max(s for _, s, _ in self.samples))
        return {"peak_gb": round(everything / GB, 2), "peak_object_store_gb": round(stores / GB, 2)}


def memory_in_use(busy: dict[int, float]) -> tuple[int, int]:
    """Bytes that the processes have for themselves, and bytes of the shared memory files that they map, each once.

    Seconds of their processor time go to `busy`.
    """
    me = psutil.Process()
    private, files = 0, {}
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            busy[process.pid] = sum(process.cpu_times()[:2])
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


def measured_prepare(settings: PrepareSettings, output: str) -> dict[str, Any]:
    """Run `prepare`; print wall and processor time, memory, disk, and each stage."""
    start_ray()
    before, started = time.process_time(), time.monotonic()
    ends: dict[str, float] = {}
    peaks: dict[str, float] = {}
    with Memory() as memory:

        def progress(stage: str, done: int, total: int) -> None:
            ends[stage] = round(time.monotonic() - started, 1)
            peaks[stage] = max(peaks.get(stage, 0.0), round(memory.lap / GB, 2))
            memory.lap = 0

        dataset = prepare(settings, output, progress)
        seconds = time.monotonic() - started
    metadata = dataset.metadata
    took = {
        "requests": sum(split["requests"] for split in metadata.counts.values()),
        "users": sum(split["users"] for split in metadata.counts.values()),
        "duplicates": metadata.dropped.get("duplicates", 0),
        "width": metadata.state_dim,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(memory.busy.values()) - before),
        **memory.peaks,
        "dataset_gb": folder_gb(output),
    }
    for name, value in took.items():
        print(f"{name:22} {value:>14,}", flush=True)
    return {**took, "stage_ends": ends, "stage_peaks_gb": peaks}
