"""The data of `make bench`: `python -m benchmarks.simulated FOLDER` makes FOLDER/logs and FOLDER/dataset."""

from __future__ import annotations

import sys
from pathlib import Path

from prefrec_ray.prepare import PrepareSettings, prepare
from prefrec_ray.settings import parse
from prefrec_ray.simulator import SimulateSettings, simulate

#: 390,000 transitions in 16 shards, so that lanes move on from shard to shard.
WORLD = {"users": 2000, "requests": 250}


def main() -> None:
    """Makes what is not there."""
    logs, dataset = (str(Path(sys.argv[1]) / name) for name in ("logs", "dataset"))
    if not Path(logs).exists():
        simulate(parse(SimulateSettings, WORLD, "benchmarks"), logs)
    prepare(parse(PrepareSettings, {"source": {"kind": "simulator", "path": logs}}, "benchmarks"), dataset)


if __name__ == "__main__":
    main()
