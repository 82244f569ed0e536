"""Growth of `prepare` with the log: `python -m benchmarks kuairand FOLDER MILLIONS... [--scratch DIR]`.

The standard log of KuaiRand in FOLDER (the Pure version, or a part of it) is repeated with new user ids to this many
million rows and written as the files of 27K. For each size a process of its own prepares it, with all tabs and without
user features, and measures it (memory.py). The JSON has time and peak of each stage too, and the machine's
load (processes that want to run, over the last minute) as each size ended.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.scale.memory import folder_gb, measured_prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.logs.readers.kuairand import find_files
from prefrec_ray.logs.sources import KuaiRandSource
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


def measure(source: str, millions: float, scratch: Path | None) -> dict[str, Any]:
    """Replicate and prepare; return time and memory."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rows = round(millions * 1e6)
        logs = Path(folder) / "KuaiRand-27K"
        logs.mkdir()
        replicate(source, rows, logs)
        print(f"rows {rows:,}, {folder_gb(logs)} GB", flush=True)
        settings = {
            "source": {"kind": "kuairand", "path": str(logs), "tabs": "all", "user_features": []},
            "preferences": {"length": 10, "min_requests": 20},
        }
        took = measured_prepare(parse(PrepareSettings, settings, "benchmark"), f"{folder}/dataset")
        return {"rows": rows, "log_gb": folder_gb(logs), **took, "load": round(os.getloadavg()[0], 1)}


def main(folder: Path, millions: Sequence[float], scratch: Path | None = None) -> Iterator[dict[str, Any]]:
    """Measures each size, in a process of its own."""
    sizes = []
    for million in millions:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            sizes.append(pool.submit(measure, str(folder), million, scratch).result())
        yield {"sizes": sizes}


def _share(half: pa.Table, log: pa.Table, rows: int) -> int:
    """The rows of `half` when only the first `rows` of `log` are taken, rounded."""
    return round(half.num_rows * rows / log.num_rows)
