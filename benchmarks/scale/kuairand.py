"""Growth of `prepare` with the log: `python -m benchmarks kuairand FOLDER MILLIONS... [--scratch DIR]`.

The standard log of KuaiRand in FOLDER (the Pure version, or a part of it) is repeated with new user ids to this many
million rows and written as the files of 27K. Each size is prepared by `prefrec prepare`, with all tabs and without
user features, and measured (memory.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow import csv

from benchmarks.scale.memory import folder_gb, stage
from prefrec_ray.logs.readers.kuairand import find_files
from prefrec_ray.logs.sources import KuaiRandSource

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
        prepare = {
            "source": {"kind": "kuairand", "path": str(logs), "tabs": "all", "user_features": []},
            "preferences": {"length": 10, "min_requests": 20},
        }
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump({"prepare": prepare}))
        took, _ = stage(["prepare", str(config), "--output", f"{folder}/dataset"])
        return {"rows": rows, "log_gb": folder_gb(logs), **took, "dataset_gb": folder_gb(f"{folder}/dataset")}


def main(folder: Path, millions: Sequence[float], scratch: Path | None = None) -> Iterator[dict[str, Any]]:
    """Measures each size."""
    sizes = []
    for million in millions:
        sizes.append(measure(str(folder), million, scratch))
        print(sizes[-1], flush=True)
        yield {"sizes": sizes}


def _share(half: pa.Table, log: pa.Table, rows: int) -> int:
    """The rows of `half` when only the first `rows` of `log` are taken, rounded."""
    return round(half.num_rows * rows / log.num_rows)
