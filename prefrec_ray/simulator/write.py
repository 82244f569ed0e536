"""`simulate`: a log of the platform under its logging policy, written by Ray tasks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pyarrow import fs

from prefrec_ray import runtime, storage
from prefrec_ray.errors import UserError
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import END_OF_TIME
from prefrec_ray.simulator.law import LOGGING, SimulatedWorld, generator
from prefrec_ray.simulator.rollout import logged_history
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world
from prefrec_ray.storage.parquet import write_parquet

SCHEMA_VERSION = 1


def simulate(settings: SimulateSettings, output: str, progress: Progress = silent) -> None:
    """Write the log folder `output` (docs/formats.md). `progress` counts files.

    The users of a block depend only on the seed and the block, and a file contains whole blocks in order. The rows are
    therefore the same for any `settings.shards` and any number of workers. Raises `UserError` if `output` exists, and
    as `load_world` does.
    """
    world = load_world(settings)
    with storage.staged(output, "log.json") as folder:
        runtime.start_ray()
        storage.make_folder(storage.join(folder, "interactions"))
        # Workers may run in another folder, so they get the file system and the full path.
        system, path = storage.filesystem(folder)
        shards = np.array_split(np.arange(settings.blocks), min(settings.shards, settings.blocks))
        files = [f"{path}/interactions/part-{number:05d}.parquet" for number in range(len(shards))]
        rows = run_tasks(
            lambda part: _write_shard.remote(settings, part[0].tolist(), system, part[1]),
            zip(shards, files, strict=True),
            "simulate: files",
            progress,
        )
        _write_users(world, system, f"{path}/users.parquet")
        items = world.items()
        write_parquet(items, storage.join(folder, "items.parquet"))
        log = {
            "schema_version": SCHEMA_VERSION,
            "kind": "simulator",
            "feedback": list(world.feedback),
            "user_features": {name: list(categories) for name, categories in world.categories.items()},
            # Embeddings, if the items have them, are used instead of categories.
            "item_features": [] if "embedding" in items.column_names else items.column_names[1:],
            "reward": "satisfaction" if settings.truth else None,
            "world": settings.model_dump(mode="json"),
            "counts": {"users": settings.users, "items": settings.items, "interactions": sum(rows)},
        }
        storage.write_json(storage.join(folder, "log.json"), log)


def log_block(world: SimulatedWorld, block: int) -> pa.Table:
    """Return the interactions of one block of users, by user and in time order.

    Pages of several items have one row per item, also for the items that the user did not examine. These have no
    feedback, and the satisfaction after the item before.
    """
    settings = world.settings
    users = settings.block_users(block)
    _, history = logged_history(world, block)
    kept = history.made
    opened = kept & (history.position == 0)
    pages, size = int(opened.sum()), settings.page
    if history.time_ms[kept].max() >= 1000 * END_OF_TIME:
        raise UserError("simulate: found users who come back after 2199; expected fewer requests")
    # Row of the log of each impression: pages are adjacent, as are their positions.
    place = (np.cumsum(opened[kept]) - 1) * size + history.position[kept]
    examined = np.zeros(pages * size, dtype=bool)
    examined[place] = True
    feedback = np.zeros((pages * size, len(world.feedback)), np.float32)
    feedback[place] = history.feedback[kept]
    columns = {
        "user_id": np.repeat(users, size * opened.sum(axis=1)),
        "item_id": history.page[opened].ravel(),
        "timestamp": np.repeat(history.time_ms[opened], size),
        "propensity": history.propensity[opened].ravel(),
        **dict(zip(world.feedback, feedback.T, strict=True)),
    }
    if size > 1:
        columns["page"] = np.repeat(np.arange(pages), size)
        columns["position"] = np.tile(np.arange(size, dtype=np.int32), pages)
        columns["examined"] = examined
    if settings.truth:
        columns["satisfaction"] = history.satisfaction[kept][np.cumsum(examined) - 1]
    return pa.table(columns)


@ray.remote(num_cpus=1)
def _write_shard(settings: SimulateSettings, blocks: list[int], system: fs.FileSystem, path: str) -> int:
    """Write the blocks to one file, one row group per block; return the number of rows."""
    world, rows = load_world(settings), 0
    writer = None
    with system.open_output_stream(path) as stream:
        for block in blocks:
            table = log_block(world, block)
            writer = writer or pq.ParquetWriter(stream, table.schema, write_page_checksum=True)
            writer.write_table(table)
            rows += table.num_rows
        if writer:
            writer.close()
    return rows


def _write_users(world: SimulatedWorld, system: fs.FileSystem, path: str) -> None:
    schema = pa.schema([("user_id", pa.int64()), *((name, pa.string()) for name in world.categories)])
    with pq.ParquetWriter(path, schema, filesystem=system, write_page_checksum=True) as writer:
        for block in range(world.settings.blocks):
            users = world.settings.block_users(block)
            crowd = world.crowd(users, generator(world.settings.seed, LOGGING, block, 0))
            writer.write_table(pa.table({"user_id": users, **crowd.features}, schema=schema))
