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
from prefrec_ray.settings import END_OF_TIME
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.features import CATEGORIES
from prefrec_ray.simulator.logging_policy import LoggingPolicy
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.settings import EMBEDDING_DIM, SimulateSettings
from prefrec_ray.simulator.world import LOGGING, World, generator
from prefrec_ray.storage.parquet import write_parquet

SCHEMA_VERSION = 1


def simulate(settings: SimulateSettings, output: str, progress: Progress = silent) -> None:
    """Write the log folder `output` (docs/formats.md). `progress` counts users.

    The users of a block depend only on the seed and the block, and a file contains whole blocks in order. The rows are
    therefore the same for any `settings.shards` and any number of workers. Raises `UserError` if `output` exists.
    """
    with storage.staged(output, "log.json") as folder:
        runtime.start_ray()
        world = World(settings)
        storage.make_folder(storage.join(folder, "interactions"))
        # Workers may run in another folder, so they get the file system and the full path.
        system, path = storage.filesystem(folder)
        shards = np.array_split(np.arange(world.blocks), min(settings.shards, world.blocks))
        pending = {
            _write_shard.remote(settings, blocks.tolist(), system, f"{path}/interactions/part-{number:05d}.parquet"): (
                sum(len(world.block_users(b)) for b in blocks)
            )
            for number, blocks in enumerate(shards)
        }
        _write_users(world, system, f"{path}/users.parquet")
        _write_items(world, storage.join(folder, "items.parquet"))
        done = interactions = 0
        progress("simulate: users", 0, settings.users)
        while pending:
            (ready,), _ = ray.wait(list(pending))
            interactions += ray.get(ready)
            done += pending.pop(ready)
            progress("simulate: users", done, settings.users)
        log = {
            "schema_version": SCHEMA_VERSION,
            "kind": "simulator",
            "feedback": list(FEEDBACK),
            "user_features": {name: list(categories) for name, categories in CATEGORIES.items()},
            "propensity": True,
            "reward": "satisfaction" if settings.truth else None,
            "world": settings.model_dump(mode="json"),
            "counts": {"users": settings.users, "items": settings.items, "interactions": interactions},
        }
        storage.write_json(storage.join(folder, "log.json"), log)


def log_block(world: World, block: int) -> pa.Table:
    """Return the interactions of one block of users, by user and in time order."""
    settings = world.settings
    users = world.block_users(block)
    crowd, server = start_of_log(world, block)
    traits = crowd.traits
    history = roll_out(crowd, server, int(traits.requests.max()))
    # All users are simulated for the largest number of impressions; each user's surplus is dropped.
    kept = history.made & (np.arange(history.rows.shape[1]) < traits.requests[:, None])
    if history.time_ms[kept].max() >= 1000 * END_OF_TIME:
        raise UserError(
            "simulate: found users who come back after 2199; expected fewer requests, or a smaller world.gap_hours, "
            "gap_spread, gap_satisfaction or gap_noise"
        )
    columns = {
        "user_id": np.repeat(users, kept.sum(axis=1)),
        "item_id": history.rows[kept],
        "timestamp": history.time_ms[kept],
        "propensity": history.propensity[kept],
        **{name: history.feedback[:, :, k][kept] for k, name in enumerate(FEEDBACK)},
    }
    if settings.truth:
        columns["satisfaction"] = history.satisfaction[kept]
    return pa.table(columns)


def start_of_log(world: World, block: int, users: np.ndarray | None = None) -> tuple[Crowd, LoggingPolicy]:
    """Return the users of a block, or the given users, and the logging policy before their first impressions.

    `roll_out` of both makes the log.
    """
    settings = world.settings
    traits = world.traits(world.block_users(block) if users is None else users)
    crowd = Crowd(world, traits, generator(settings.seed, LOGGING, block, 0))
    return crowd, LoggingPolicy(crowd, generator(settings.seed, LOGGING, block, 1))


@ray.remote(num_cpus=1)
def _write_shard(settings: SimulateSettings, blocks: list[int], system: fs.FileSystem, path: str) -> int:
    """Write the blocks to one file, one row group per block; return the number of rows."""
    world, rows = World(settings), 0
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


def _write_users(world: World, system: fs.FileSystem, path: str) -> None:
    schema = pa.schema([("user_id", pa.int64()), *((name, pa.string()) for name in CATEGORIES)])
    with pq.ParquetWriter(path, schema, filesystem=system, write_page_checksum=True) as writer:
        for block in range(world.blocks):
            users = world.block_users(block)
            writer.write_table(pa.table({"user_id": users, **world.traits(users).features}, schema=schema))


def _write_items(world: World, uri: str) -> None:
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(world.embeddings.ravel()), EMBEDDING_DIM)
    columns = {"item_id": np.arange(len(world.embeddings)), "embedding": embedding}
    if world.settings.world.new_items:
        start, end = world.life_spans()
        columns |= {"from_ms": start, "until_ms": pa.array(end, from_pandas=True).cast(pa.int64())}
    write_parquet(pa.table(columns), uri)
