"""How long histories must be before a log says whether people tire (prefrec_ray/engagement/shown.py: ENOUGH, LONG).

    python -m benchmarks histories OUTPUT [--worlds tiring stable ...] [--seeds 0 1]

Logs of worlds of the truth bench with so many users and requests each are asked without the limits of the product.
OUTPUT/histories.csv has a row per log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import markdown
from benchmarks.truth.bench import world_of
from prefrec_ray import storage
from prefrec_ray.engagement.shown import Shown
from prefrec_ray.engagement.tiring import estimate
from prefrec_ray.simulator.rollout import History, roll_out
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import start_of_log

#: Users, and requests of each.
SIZES = ((60, 60), (1000, 60), (120, 120), (500, 120), (200, 160), (60, 240), (160, 240))


def main(
    output: Path,
    worlds: Sequence[str] = ("all_at_once", "tiring", "differing_stable", "stable"),
    seeds: Sequence[int] = (0, 1),
) -> dict[str, Any]:
    """Asks all logs, then prints what they say by size and world."""
    torch.set_num_threads(1)
    rows = list(asked(worlds, seeds))
    storage.write_csv(storage.make_room(str(output / "histories.csv")), rows)
    print(table(rows))
    return {"rows": rows}


def asked(worlds: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row per world, size and seed: the mean of the parts' varieties, unclipped, and its standard error."""
    for name in worlds:
        for users, requests in SIZES:
            for seed in seeds:
                estimated = estimate(log_of(name, users, requests, seed), seed)
                columns = {}
                if estimated is not None:
                    columns = {"variety": round(float(np.mean(estimated.parts)), 2), "error": round(estimated.error, 2)}
                yield {"world": name, "users": users, "requests": requests, "seed": seed, **columns}


def log_of(name: str, users: int, requests: int, seed: int) -> Shown:
    """What the logging policy shows so many users of a world."""
    world = world_of(name, users, requests, 500 + seed)
    return shown(roll_out(*start_of_log(world, 0, np.arange(users)), requests), world)


def shown(history: History, world: World) -> Shown:
    """A history [users, requests] by rows."""
    users, requests = history.rows.shape
    return Shown(
        np.arange(users) * requests,
        world.embeddings[history.rows.ravel()].astype(np.float32),
        history.session.ravel(),
        history.time_ms.ravel(),
        history.feedback.reshape(users * requests, -1).astype(np.float32),
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a size: in each world what each log says, and its standard error."""
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    lines = []
    for users, requests in SIZES:
        cells = [
            ", ".join(
                f"{row['variety']:.1f} ({row['error']:.1f})"
                for row in rows
                if (row["world"], row["users"], row["requests"]) == (world, users, requests) and "variety" in row
            )
            for world in worlds
        ]
        lines.append([f"{users:,} of {requests}", *cells])
    return markdown(("users, requests of each", *worlds), lines)
