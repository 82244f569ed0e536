"""How `prepare` grows: `python -m benchmarks.kuairand_scale FOLDER MILLIONS... [--json FILE] [--scratch DIR]`.

The standard log of KuaiRand in FOLDER (the Pure version, or a part of it) is repeated with new user ids to so many
million rows and written as the files of 27K. For each size a process of its own prepares it, with all tabs and without
user features, and one line tells the time, by the clock and of the processor, the peak memory of the driver and all of
Ray's processes together (benchmarks/prepare_memory.py), and the disk. The JSON has time and peak of each stage too, and
the machine's load (processes that want to run, over the last minute) as each size ended.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.machine import machine
from benchmarks.prepare_memory import GB, PeakMemory, folder_gb
from benchmarks.script import run
from prefrec_ray.logs.readers.kuairand import find_files
from prefrec_ray.logs.sources import KuaiRandSource
from prefrec_ray.prepare.run import PrepareSettings, prepare
from prefrec_ray.runtime import start_ray
from prefrec_ray.settings import parse

#: Rows before go to the files of the first two weeks, so that users lie in several files.
HALF_TIME_MS = 1_651_420_000_000


def replicate(source: str, rows: int, folder: Path) -> int:
    """Writes `rows` rows in the files of 27K; returns how many users they have."""
    files = find_files(KuaiRandSource(kind="kuairand", path=source))
    log = pa.concat_tables([csv.read_csv(file) for file in files["log_standard"]])
    stride = pc.max(log["user_id"]).as_py() + 1
    copies = -(-rows // log.num_rows)
    early = pc.less(log["time_ms"], HALF_TIME_MS)
    for dates, half in (("4_08_to_4_21", log.filter(early)), ("4_22_to_5_08", log.filter(pc.invert(early)))):
        for part in (1, 2):
            with csv.CSVWriter(folder / f"log_standard_{dates}_27k_part{part}.csv", log.schema) as writer:
                for copy in range(part - 1, copies, 2):
                    mine = half if copy < copies - 1 else half.slice(0, _share(half, log, rows - copy * log.num_rows))
                    ids = pc.add(mine["user_id"], copy * stride)
                    writer.write_table(mine.set_column(0, "user_id", ids))
    csv.write_csv(csv.read_csv(files["user_features"][0]).slice(0, 0), folder / "user_features_27k.csv")
    videos = csv.read_csv(files["video_features_basic"][0])
    csv.write_csv(videos, folder / "video_features_basic_27k.csv")
    return copies * stride


def measure(source: str, millions: float, scratch: str | None) -> dict[str, Any]:
    """Replicates and prepares; what it took."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rows = round(millions * 1e6)
        logs, output = Path(folder) / "KuaiRand-27K", Path(folder) / "dataset"
        logs.mkdir()
        replicate(source, rows, logs)
        settings = {
            "source": {"kind": "kuairand", "path": str(logs), "tabs": "all", "user_features": []},
            "preferences": {"length": 10, "min_requests": 20},
        }
        start_ray()
        before = time.process_time()
        memory = PeakMemory()
        memory.start()
        started = time.monotonic()
        stages: dict[str, float] = {}
        peaks: dict[str, float] = {}

        def progress(stage: str, done: int, total: int) -> None:
            stages[stage] = time.monotonic() - started
            peaks[stage] = max(peaks.get(stage, 0.0), memory.lap)
            memory.lap = 0

        dataset = prepare(parse(PrepareSettings, settings, "benchmark"), str(output), progress)
        seconds = time.monotonic() - started
        memory.stop.set()
        memory.join()
        return {
            "rows": rows,
            "requests": sum(split["requests"] for split in dataset.metadata.counts.values()),
            "duplicates": dataset.metadata.dropped.get("duplicates", 0),
            "users": sum(split["users"] for split in dataset.metadata.counts.values()),
            "width": dataset.metadata.state_dim,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(sum(memory.busy.values()) - before),
            "load": round(os.getloadavg()[0], 1),
            "stage_ends": {stage: round(end, 1) for stage, end in stages.items()},
            "stage_peaks_gb": {stage: round(peak / GB, 2) for stage, peak in peaks.items()},
            "peak_gb": round(memory.peak / GB, 2),
            "peak_object_store_gb": round(memory.peak_shared / GB, 2),
            "log_gb": round(folder_gb(logs), 2),
            "dataset_gb": round(folder_gb(output), 2),
        }


def main() -> None:
    """Measures each size and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("millions", nargs="+", type=float)
    parser.add_argument("--json")
    parser.add_argument("--scratch")
    arguments = parser.parse_args()
    found = []
    for millions in arguments.millions:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(measure, arguments.folder, millions, arguments.scratch).result())
        last = found[-1]
        print(
            f"{last['rows']:>12,} rows  {last['seconds']:8.1f} s ({last['cpu_seconds']:,} s of processor time)  "
            f"peak {last['peak_gb']:.2f} GB (object store {last['peak_object_store_gb']:.2f} GB)  "
            f"data set {last['dataset_gb']:.2f} GB",
            flush=True,
        )
        if arguments.json:
            Path(arguments.json).write_text(json.dumps({"machine": machine(), "sizes": found}, indent=2) + "\n")


def _share(half: pa.Table, log: pa.Table, rows: int) -> int:
    """The rows of `half` when only the first `rows` of `log` are taken, rounded."""
    return round(half.num_rows * rows / log.num_rows)


if __name__ == "__main__":
    run(main)
