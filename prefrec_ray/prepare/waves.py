"""The wide stages: the normaliser, then requests and shuffled transitions in waves that bound what is in memory.

The transitions of all buckets, one after another, are cut into waves of equal size. Each wave is shuffled among shards
of its own, and is on disk before the next one starts. Buckets are random sets of users, so that a wave is a sample of
them; the shards of the waves are numbered in turn, so that neighbours come from different ones.
"""

from __future__ import annotations

import numpy as np
import ray

from prefrec_ray import storage
from prefrec_ray.mdp.normaliser import Moments, Normaliser
from prefrec_ray.prepare.shuffle import NUMBER_WIDTH, Destinations, write_shard
from prefrec_ray.prepare.states import Context, state_moments, write_requests
from prefrec_ray.prepare.users import Users
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.terms import SPLITS, Progress


def fit_normaliser(context: Context, buckets: list[int], progress: Progress) -> Normaliser:
    """Scales by the raw states of the training users' requests."""
    shared = ray.put(context)
    total = Moments.zero(context.definition.width)
    for part in run_tasks(lambda bucket: state_moments.remote(shared, bucket), buckets, "scale", progress):
        total.merge(part)
    return total.normaliser()


def write_states(context: Context, normaliser: Normaliser, users: Users, seed: int, progress: Progress) -> None:
    """Writes the requests of all users and the transitions of training users."""
    for name in (*(f"requests/{split}" for split in SPLITS), "transitions"):
        storage.make_folder(storage.join(context.folder, name))
    widths = (context.definition.width, context.definition.action_dim, int(context.has_reward))
    buckets = np.unique(users.bucket)
    sizes = np.bincount(users.bucket, (users.split == 0) * (users.requests - 1)).astype(np.int64)[buckets]
    offsets = np.cumsum(sizes) - sizes
    row_bytes = 4 * (2 * widths[0] + widths[1] + widths[2] + NUMBER_WIDTH)
    destinations = Destinations.for_size(int(sizes.sum()), row_bytes, seed)
    shared = ray.put(context)
    pieces: dict[int, list[ray.ObjectRef]] = {shard: [] for shard in range(destinations.shards)}

    def submit_bucket(number: int) -> ray.ObjectRef:
        shards = destinations.reached(int(offsets[number]), int(sizes[number]))
        task = write_requests.options(num_returns=1 + len(shards))
        outputs = task.remote(shared, normaliser, int(buckets[number]), destinations, int(offsets[number]))
        written, *parts = outputs if shards else [outputs]
        for shard, part in zip(shards, parts, strict=True):
            pieces[shard].append(part)
        return written

    def submit_shard(shard: int) -> ray.ObjectRef:
        # The task alone holds the pieces from now on: they are freed when it ends.
        return write_shard.remote(context.folder, shard, widths, context.state_type, seed, *pieces.pop(shard))

    first_wave = destinations.wave(offsets)
    for wave in range(destinations.waves):
        mine, shards = np.flatnonzero(first_wave == wave).tolist(), destinations.of_wave(wave)
        run_tasks(submit_bucket, mine, "states", progress, (int((first_wave < wave).sum()), len(buckets)))
        run_tasks(submit_shard, shards, "shuffle", progress, (wave * len(shards), destinations.shards))
