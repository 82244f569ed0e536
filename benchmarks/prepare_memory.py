"""Seconds, peak memory and disk of a `prepare`: `python -m benchmarks.prepare_memory CONFIG [OUTPUT]`.

Memory is that of the driver and of all of Ray's processes together, sampled ten times a second: the sum of what each
has for itself (USS, which leaves shared memory out), and once the object store's shared memory in use.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.script import run
from prefrec_ray.cli.config import open_section
from prefrec_ray.prepare.run import prepare
from prefrec_ray.runtime import start_ray

GB = 1e9


class PeakMemory(threading.Thread):
    """Samples this process and its descendants until `stop` is set.

    `lap` is the peak since it was last set to 0. `busy` are seconds of processor time by process, without the sampling:
    what the work takes, however busy the machine is with other things.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.peak = self.peak_shared = self.lap = 0
        self.busy: dict[int, float] = {}

    def run(self) -> None:
        """Keeps the largest sum."""
        while not self.stop.wait(0.1):
            private, shared = memory_in_use(self.busy)
            self.peak = max(self.peak, private + shared)
            self.peak_shared = max(self.peak_shared, shared)
            self.lap = max(self.lap, private + shared)
            self.busy[os.getpid()] -= time.thread_time()


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
                    found = os.stat(descriptor)
                    files[found.st_ino] = found.st_blocks * 512
    return private, sum(files.values())


def folder_gb(folder: str | Path) -> float:
    """GB of the files in a folder and below it."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / GB


def main() -> None:
    """Runs `prepare` on the section of CONFIG and prints what it took."""
    config, *rest = sys.argv[1:]
    settings = open_section(config, "prepare")
    with tempfile.TemporaryDirectory() as folder:
        output = rest[0] if rest else str(Path(folder) / "dataset")
        start_ray()
        memory = PeakMemory()
        memory.start()
        started = time.monotonic()
        dataset = prepare(settings, output)
        seconds = time.monotonic() - started
        memory.stop.set()
        memory.join()
        disk = folder_gb(output)
    requests = sum(split["requests"] for split in dataset.metadata.counts.values())
    print(f"requests      {requests:,}, states of {dataset.metadata.state_dim} numbers")
    print(f"seconds       {seconds:.1f} ({requests / seconds:,.0f} requests/s)")
    print(f"peak memory   {memory.peak / GB:.2f} GB, of which object store {memory.peak_shared / GB:.2f} GB")
    print(f"disk          {disk:.2f} GB")


if __name__ == "__main__":
    run(main)
