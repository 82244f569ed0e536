"""What logs say of more of the same, in worlds whose users tire of it and in others (prefrec_ray/engagement/tiring.py).

    python -m benchmarks tiring OUTPUT [--logs 3 4] [--users 900 300]

Simulates the logs of all worlds of the truth bench with so many users each, and prepares them. OUTPUT/tiring.csv has a
row per log; what is in it already is not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from benchmarks.harness import markdown, prefrec, rows_in
from benchmarks.truth.bench import WORLDS, one_log
from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.metadata import Tiring
from prefrec_ray.settings import load_yaml

Row = dict[str, Any]


def main(output: Path, logs: Sequence[int] = (3, 4), users: Sequence[int] = (900, 300)) -> dict[str, Any]:
    """Asks the logs that are missing, then prints what they say by world."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / "tiring.csv"
    rows: list[Row] = rows_in(file)
    done = {(row["world"], int(row["log"]), int(row["users"])) for row in rows}
    for log, count, world in product(logs, users, sorted(file.stem for file in WORLDS.glob("*.yaml"))):
        if (world, log, count) in done:
            continue
        rows.append(asked(world, log, count, output / "log"))
        storage.write_csv(str(file), rows)
    print(table(rows))
    return {"rows": rows}


def asked(world: str, log: int, users: int, folder: Path) -> Row:
    """Simulates and prepares one log in `folder`, which is removed again; what the log says."""
    sections = one_log(load_yaml(str(WORLDS / f"{world}.yaml")), log, folder / "logs")
    sections["simulate"]["users"] = users
    folder.mkdir()
    config = folder / "world.yaml"
    config.write_text(yaml.safe_dump(sections, sort_keys=False))
    try:
        prefrec("simulate", str(config), "--output", str(folder / "logs"))
        prefrec("prepare", str(config), "--output", str(folder / "dataset"))
        tiring = PreparedDataset.open(str(folder / "dataset")).metadata.tiring
    finally:
        shutil.rmtree(folder)
    tires = sections["simulate"].get("world", {}).get("tiring", 0.0)
    known = tiring.model_dump() if tiring else dict.fromkeys(Tiring.model_fields)
    return {"world": world, "log": log, "users": users, "tiring": tires, **known}


def table(rows: Sequence[Row]) -> str:
    """The varieties that logs say, by world and number of users."""
    counts = sorted({int(row["users"]) for row in rows}, reverse=True)
    worlds = sorted({(-float(row["tiring"]), row["world"]) for row in rows})

    def cell(world: str, users: int) -> str:
        of = [row for row in rows if (row["world"], int(row["users"])) == (world, users)]
        varieties = [float(row["variety"]) for row in of if row["variety"] not in ("", None)]
        error = f" ({mean(float(row['error']) for row in of if row['error']):.1f})" if varieties else ""
        return ", ".join(f"{value:g}" for value in varieties) + error

    lines = [[world, "yes" if tires else "no", *(cell(world, users) for users in counts)] for tires, world in worlds]
    return markdown(("world", "people tire", *(f"{users} users: variety (error)" for users in counts)), lines)
