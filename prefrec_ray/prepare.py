"""`prepare`: a log becomes a data set of states, transitions and preferences, on Ray.

The log is parted by users once, narrow; from then on each stage is a task a bucket of users. The driver holds a row a
user and an item, never the interactions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
import ray

from prefrec_ray import runtime, storage
from prefrec_ray.dataset import SCHEMA_VERSION, Metadata, PreparedDataset
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.logs import Log, open_log
from prefrec_ray.mdp.normaliser import Moments, Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.prepare_items import given_items, learn_items
from prefrec_ray.prepare_preferences import write_preferences
from prefrec_ray.prepare_settings import SPLITS, PrepareSettings
from prefrec_ray.prepare_shuffle import Destinations, write_shard
from prefrec_ray.prepare_states import Context, state_moments, write_requests
from prefrec_ray.prepare_users import Users, split_by_user
from prefrec_ray.tasks import Progress, run_tasks

__all__ = ["PrepareSettings", "prepare"]

#: Raw states of one bucket, of which a task holds a few copies.
_BUCKET_BYTES = 64 << 20


def prepare(settings: PrepareSettings, output: str, progress: Progress | None = None) -> PreparedDataset:
    """Writes the data set `output` (docs/architecture.md: the data set) and opens it.

    `progress(stage, done, total)` counts interactions (stage read), buckets of users and shards. The same settings and
    log give the same bytes, however many workers there are.
    Raises `UserError` for a log that cannot be used, and where `output` exists; nothing is left behind then.
    """
    report = progress or (lambda stage, done, total: None)
    try:
        with storage.staged(storage.absolute(output)) as folder:
            runtime.start_ray()
            _write_dataset(settings, folder, report)
    except Exception as error:
        mistake = find_user_error(error)
        if mistake is None:
            raise
        raise mistake from None
    return PreparedDataset.open(output)


def _write_dataset(settings: PrepareSettings, folder: str, progress: Progress) -> None:
    log = open_log(settings.source, settings.seed)
    items = given_items(log, settings)
    definition = StateDefinition(
        feedback=log.feedback,
        user_features=_categories(log),
        action_dim=items.embeddings.shape[1] if items else settings.action_dim,
        session_gap_ms=settings.session_gap_ms,
    )
    partitions = settings.partitions or max(1, -(-log.rows * definition.width * 4 // _BUCKET_BYTES))
    users = split_by_user(log, settings, partitions, folder, progress)
    _check_splits(users)
    # They need sessions only, and are the first to tell that a log is too small: before the long stages.
    write_preferences(users, settings, folder, progress)
    buckets = np.unique(users.bucket).tolist()
    if items is None:
        items = learn_items(settings, buckets, folder, progress)
    items.save(storage.join(folder, "items.parquet"))

    context = Context(folder, definition, items, log.users, log.has_reward)
    normaliser = _write_states(context, users, buckets, settings.seed, progress)
    storage.remove(storage.join(folder, "work"))
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        counts=users.counts(),
        state_dim=definition.width,
        action_dim=definition.action_dim,
        action_low=-1.0,
        action_high=1.0,
        state=definition.to_dict(),
        normaliser=normaliser.to_dict(),
        settings=settings.model_dump(mode="json"),
        seed=settings.seed,
        tasks=list(settings.preferences.tasks),
        teachers=list(dict.fromkeys(teacher.name for teacher in settings.preferences.teachers)),
        mixture_weight=settings.mixture_weight,
        has_reward=log.has_reward,
        given_sessions=log.given_sessions,
        world=log.world,
    )
    storage.write_json(storage.join(folder, "metadata.json"), metadata.model_dump(mode="json"))


def _write_states(context: Context, users: Users, buckets: list[int], seed: int, progress: Progress) -> Normaliser:
    """Fits the normaliser on the training users' requests, then writes requests and shuffled transitions."""
    shared = ray.put(context)
    total = Moments.zero(context.definition.width)
    for part in run_tasks(lambda bucket: state_moments.remote(shared, bucket), buckets, "scale", progress):
        total.merge(part)
    normaliser = total.normaliser()

    for name in (*(f"requests/{split}" for split in SPLITS), "transitions"):
        storage.make_folder(storage.join(context.folder, name))
    widths = (context.definition.width, context.definition.action_dim, int(context.has_reward))
    training = users.split == 0
    sizes = np.bincount(users.bucket, training * (users.requests - 1)).astype(np.int64)
    offsets = np.cumsum(sizes) - sizes
    destinations = Destinations.for_size(int(sizes.sum()), 4 * (2 * widths[0] + widths[1] + widths[2]), seed)
    pieces: dict[int, list[ray.ObjectRef | None]] = {}

    def submit_bucket(bucket: int) -> ray.ObjectRef:
        task = write_requests.options(num_returns=1 + destinations.shards)
        written, *pieces[bucket] = task.remote(shared, normaliser, bucket, destinations, int(offsets[bucket]))
        return written

    def submit_shard(shard: int) -> ray.ObjectRef:
        parts = [pieces[bucket][shard] for bucket in buckets]
        for bucket in buckets:
            pieces[bucket][shard] = None  # the task alone holds them now: they are freed when it ends
        return write_shard.remote(context.folder, shard, widths, seed, *parts)

    run_tasks(submit_bucket, buckets, "states", progress)
    run_tasks(submit_shard, range(destinations.shards), "shuffle", progress)
    return normaliser


def _categories(log: Log) -> Mapping[str, tuple[str, ...]]:
    """The categories of each user feature: those that the log lists, or all that its users show, sorted."""
    if log.categories is not None or log.users is None:
        return log.categories or {}
    names = [name for name in log.users.column_names if name != "user_id"]
    return {name: tuple(sorted(pc.unique(log.users[name].drop_null()).to_pylist())) for name in names}


def _check_splits(users: Users) -> None:
    for code, name in enumerate(SPLITS[:2]):
        if not (users.split == code).any():
            raise UserError(f"none of the {len(users.ids)} users falls into the split '{name}'; expected more users")
