"""The data of `make bench`: `python -m benchmarks.simulated FOLDER` makes FOLDER/logs, /dataset and /large_logs."""

from __future__ import annotations

import sys
from pathlib import Path

from prefrec_ray.prepare.run import PrepareSettings, prepare
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

#: 390,000 transitions in 16 shards, so that lanes move on from shard to shard.
WORLD = {"users": 2000, "requests": 250}
#: 4 million requests for `sessions`: what Ray takes to start its tasks is then little beside the work.
LARGE = {"users": 16_000, "requests": 250, "shards": 16}


def main() -> None:
    """Makes what is not there."""
    logs, dataset, large = (str(Path(sys.argv[1]) / name) for name in ("logs", "dataset", "large_logs"))
    for folder, world in ((logs, WORLD), (large, LARGE)):
        if not Path(folder).exists():
            simulate(parse(SimulateSettings, world, "benchmarks"), folder)
    if not Path(dataset).exists():
        prepare(parse(PrepareSettings, {"source": {"kind": "simulator", "path": logs}}, "benchmarks"), dataset)


if __name__ == "__main__":
    main()
