"""Item embeddings: from the log, or learned from items that training users consume together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset.prepare.users import read_bucket
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.log import ContentOf, Log
from prefrec_ray.mdp.embeddings import (
    MIN_SIZE,
    BasketGram,
    basket_gram,
    basket_sizes,
    content_embeddings,
    embeddings_from_gram,
)
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import reduce_tasks, run_tasks

#: Co-consumption takes one number per pair of items: with this limit at most about 10^8 pairs.
MAX_ITEMS_WITH_CONTENT = 16_384


def items_of_log(log: Log, action_dim: int | None) -> ItemTable | None:
    """Return the embeddings of the log, or None. Raises `UserError` if their width is not `action_dim` (None: any)."""
    if log.items is None:
        return None
    items = ItemTable.from_table(log.items)
    width = items.embeddings.shape[1]
    if action_dim not in (None, width):
        raise UserError(f"action_dim: found {action_dim}; expected {width} as in the log's embeddings (or omit it)")
    return items


@dataclass(frozen=True, eq=False)
class ConsumedItems:
    """Items of some buckets: `item_id`, ascending, and how often training users consumed each (`count`)."""

    items: pa.Table
    baskets: int  # sessions of training users that `mdp.embeddings` uses
    rows: int  # the sum of their sizes

    def merge(self, other: ConsumedItems) -> ConsumedItems:
        """Return the items of both."""
        items = _sums(pa.concat_tables([self.items, other.items]))
        return ConsumedItems(items, self.baskets + other.baskets, self.rows + other.rows)


def _sums(items: pa.Table) -> pa.Table:
    """Return the sums of `count` by `item_id`, ascending."""
    return (
        items.group_by("item_id")
        .aggregate([("count", "sum")])
        .rename_columns({"count_sum": "count"})
        .sort_by("item_id")
    )


def list_items(buckets: list[int], folder: str, progress: Progress) -> ConsumedItems:
    """Return all items that users of the log consumed."""
    consumed: ConsumedItems = ray.get(
        reduce_tasks(lambda b: _bucket_items.remote(folder, b), _merge, buckets, "list items: files", progress)
    )
    return consumed


def learn_items(
    log: Log, consumed: ConsumedItems, action_dim: int, buckets: list[int], folder: str, progress: Progress
) -> ItemTable:
    """Return all `consumed` items of the log, by ascending id, with embeddings from sessions of training users.

    Embeddings are learned from co-consumption. If the log has the content of items, they also depend on it
    (mdp/embeddings.py), and co-consumption is learned for the most consumed items. Titles come from the log.
    """
    ids = learned = consumed.items["item_id"].combine_chunks()
    if log.content is not None:
        learned = most_consumed(consumed.items, MAX_ITEMS_WITH_CONTENT)
    elif not consumed.baskets:
        raise UserError(
            f"item embeddings: no session of a training user has {MIN_SIZE} different items; expected `items` with "
            "an embedding or features, or a longer session_gap_minutes"
        )
    shared, mean_size = ray.put(learned), consumed.rows / max(consumed.baskets, 1)
    gram = reduce_tasks(
        lambda b: _bucket_gram.remote(folder, b, shared, mean_size),
        _merge,
        buckets,
        "count items consumed together: files",
        progress,
    )
    task = _embeddings.remote(gram, learned, consumed.items, log.content, action_dim)
    (embeddings,) = run_tasks(lambda embed: embed, [task], "fit item embeddings", progress)
    return ItemTable(ids.to_numpy(zero_copy_only=False), embeddings, about=_about(ids, log.about))


def _about(ids: pa.Array, about: pa.Table | None) -> pa.Table | None:
    """Return titles and images of `ids`, null for items that are not in the table."""
    if about is None or about.num_columns == 1:
        return None
    return about.take(pc.index_in(ids, about["item_id"].combine_chunks())).drop_columns(["item_id"])


def most_consumed(items: pa.Table, limit: int) -> pa.Array:
    """Return ids, ascending, of the `limit` items with the largest counts, and among equal counts the smaller ids."""
    first = items.sort_by([("count", "descending"), ("item_id", "ascending")])[:limit]
    return first.filter(pc.greater(first["count"], 0)).sort_by("item_id")["item_id"].combine_chunks()


def _baskets(folder: str, bucket: int) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Return for each impression of training users the number of its session over all users, and its item."""
    rows = read_bucket(folder, bucket, ["user_id", "item_id", "session", "split"])
    rows = rows.filter(pc.equal(rows["split"], 0))
    session = rows["session"].to_numpy()
    return codes(rows["user_id"]) * (session.max(initial=0) + 1) + session, rows["item_id"]


@ray.remote(num_cpus=1)
def _bucket_items(folder: str, bucket: int) -> ConsumedItems:
    session, item = _baskets(folder, bucket)
    sizes = basket_sizes(session, codes(item))
    rows = read_bucket(folder, bucket, ["item_id", "split"])
    training = pc.equal(rows["split"], 0).cast(pa.int64())
    items = _sums(pa.table({"item_id": rows["item_id"], "count": training}))
    return ConsumedItems(items, len(sizes), int(sizes.sum()))


@ray.remote(num_cpus=1)
def _bucket_gram(folder: str, bucket: int, ids: pa.Array, mean_size: float) -> BasketGram:
    session, items = _baskets(folder, bucket)
    row = pc.index_in(items, ids)
    known = pc.is_valid(row).to_numpy()
    return basket_gram(session[known], row.drop_null().to_numpy().astype(np.int64), len(ids), mean_size)


@ray.remote(num_cpus=1)
def _merge(*parts: Any) -> Any:
    return reduce(lambda one, other: one.merge(other), parts)


@ray.remote(num_cpus=1)
def _embeddings(
    gram: BasketGram, learned: pa.Array, items: pa.Table, content_of: ContentOf | None, dim: int
) -> np.ndarray:
    if content_of is None:
        return embeddings_from_gram(gram, dim)
    together = np.full((items.num_rows, dim), np.nan, dtype=np.float32)
    known = gram.counts > 0
    if known.sum() >= dim + 2:  # otherwise embeddings come only from the content
        rows = pc.index_in(learned.filter(pa.array(known)), items["item_id"].combine_chunks()).to_numpy()
        together[rows] = embeddings_from_gram(gram, dim)[known]
    content = content_of(items["item_id"].to_numpy())
    return content_embeddings(together, content.tags, content.maker, items["count"].to_numpy(), dim)
