"""A job that puts BYTES into the object store of each worker, holds them 20 s and reads them back.

`python fill_stores.py BYTES FOLDER` prints, a line a worker, how many bytes then lie in FOLDER, where objects spill to.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

BLOCK = 10_000_000
HELD = 20.0


@ray.remote(num_cpus=0)
def fill(size: int, folder: str) -> int:
    """Bytes that are spilled while all of it is held."""
    held = [ray.put(np.full(BLOCK, number % 256, np.uint8)) for number in range(size // BLOCK)]
    time.sleep(HELD)
    spilled = sum(entry.stat().st_size for place, _, _ in os.walk(folder) for entry in os.scandir(place))
    for number, reference in enumerate(held):
        assert (ray.get(reference) == number % 256).all()
    return spilled


def main() -> None:
    """Fills all workers at once."""
    ray.init(address="auto", log_to_driver=False)
    workers = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("data")]
    there = [NodeAffinitySchedulingStrategy(worker, soft=False) for worker in workers]
    calls = [fill.options(scheduling_strategy=place).remote(int(sys.argv[1]), sys.argv[2]) for place in there]
    for spilled in ray.get(calls):
        print(f"spilled {spilled}", flush=True)


if __name__ == "__main__":
    main()
