"""How many requests a second one core simulates.  Run: OMP_NUM_THREADS=1 python benchmarks/simulator.py"""

import time

from benchmarks.script import run
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block

BLOCKS, REPEATS = 8, 5


def main() -> None:
    """Times whole blocks of the default log, kept requests only, without writing them."""
    world = World(SimulateSettings())
    log_block(world, 0)
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        requests = sum(log_block(world, block).num_rows for block in range(BLOCKS))
        rates.append(requests / (time.perf_counter() - started))
    print(f"simulator: {sorted(rates)[REPEATS // 2]:,.0f} requests/s on one core (median of {REPEATS})")


if __name__ == "__main__":
    run(main)
