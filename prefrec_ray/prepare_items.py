"""The embeddings of all items, given by the log or learned from what training users take together."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.errors import UserError
from prefrec_ray.logs import Log
from prefrec_ray.mdp.embeddings import BasketGram, basket_gram, basket_sizes, embeddings_from_gram
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.prepare_settings import PrepareSettings
from prefrec_ray.prepare_users import codes, read_bucket
from prefrec_ray.tasks import Progress, run_tasks


def given_items(log: Log, settings: PrepareSettings) -> ItemTable | None:
    """The log's own embeddings. Raises `UserError` where `action_dim` is set to another width than theirs."""
    if log.items is None:
        return None
    items = ItemTable.from_table(log.items)
    width = items.embeddings.shape[1]
    if "action_dim" in settings.model_fields_set and settings.action_dim != width:
        raise UserError(f"action_dim {settings.action_dim}: the log's embeddings have {width} numbers; leave it out")
    return items


def learn_items(settings: PrepareSettings, buckets: list[int], folder: str, progress: Progress) -> ItemTable:
    """All items of the log with embeddings from co-consumption in training users' sessions; ids ascend."""
    found = run_tasks(lambda bucket: _bucket_items.remote(folder, bucket), buckets, "items", progress)
    ids = pc.unique(pa.chunked_array([items for items, _ in found]))
    ids = ids.take(pc.sort_indices(ids))
    sizes = np.concatenate([sizes for _, sizes in found])
    if not len(sizes):
        raise UserError("item embeddings: no session of a training user has 3 different items; give embeddings")
    shared = ray.put(ids)
    parts: list[Any] = [_bucket_gram.remote(folder, bucket, shared, float(sizes.mean())) for bucket in buckets]
    while len(parts) > 1:  # a tree of sums: no task holds more than a few parts
        parts = [_merge.remote(*parts[first : first + 8]) for first in range(0, len(parts), 8)]
    (embeddings,) = run_tasks(lambda gram: _embeddings.remote(gram, settings.action_dim), parts, "embeddings", progress)
    return ItemTable(ids.to_numpy(zero_copy_only=False), embeddings)


def _baskets(folder: str, bucket: int) -> tuple[np.ndarray, pa.ChunkedArray]:
    """A label a session and the items of the training users' requests."""
    rows = read_bucket(folder, bucket, ["user_id", "item_id", "session", "split"])
    rows = rows.filter(pc.equal(rows["split"], 0))
    session = rows["session"].to_numpy()
    return codes(rows["user_id"]) * (session.max(initial=0) + 1) + session, rows["item_id"]


@ray.remote(num_cpus=1)
def _bucket_items(folder: str, bucket: int) -> tuple[pa.Array, np.ndarray]:
    """All items of a bucket, and the sizes of its training users' baskets."""
    session, items = _baskets(folder, bucket)
    return pc.unique(read_bucket(folder, bucket, ["item_id"])["item_id"]), basket_sizes(session, codes(items))


@ray.remote(num_cpus=1)
def _bucket_gram(folder: str, bucket: int, ids: pa.Array, mean_size: float) -> BasketGram:
    session, items = _baskets(folder, bucket)
    return basket_gram(session, pc.index_in(items, ids).to_numpy().astype(np.int64), len(ids), mean_size)


@ray.remote(num_cpus=1)
def _merge(*parts: BasketGram) -> BasketGram:
    return reduce(BasketGram.merge, parts)


@ray.remote(num_cpus=1)
def _embeddings(gram: BasketGram, dim: int) -> np.ndarray:
    return embeddings_from_gram(gram, dim)
