"""The embeddings of all items, given by the log or learned from what training users take together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.logs.log import Labels, Log
from prefrec_ray.mdp.content import content_embeddings
from prefrec_ray.mdp.embeddings import BasketGram, basket_gram, basket_sizes, embeddings_from_gram
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.prepare.users import read_bucket
from prefrec_ray.runtime.tasks import reduce_tasks, run_tasks
from prefrec_ray.terms import Progress

LabelsOf: TypeAlias = Callable[[np.ndarray], Labels]

#: Co-consumption holds a number a pair of items: at most some 10^8 pairs, however many items a log has.
LEARNED_WITH_LABELS = 16_384


def given_items(log: Log, action_dim: int | None) -> ItemTable | None:
    """The log's own embeddings. Raises `UserError` where they are not `action_dim` (None: any) wide."""
    if log.items is None:
        return None
    items = ItemTable.from_table(log.items)
    width = items.embeddings.shape[1]
    if action_dim not in (None, width):
        raise UserError(f"action_dim {action_dim}: the log's embeddings have {width} numbers; leave it out")
    return items


def learn_items(
    action_dim: int, labels: LabelsOf | None, buckets: list[int], folder: str, progress: Progress
) -> ItemTable:
    """All items of the log with embeddings from co-consumption in training users' sessions; ids ascend.

    Where the log has labels they join in (mdp/content.py), and co-consumption is learned of the most consumed only.
    """
    seen = ray.get(reduce_tasks(lambda b: _bucket_items.remote(folder, b), _merge_items, buckets, "items", progress))
    ids, learned = seen.items["item_id"].combine_chunks(), seen.items["item_id"].combine_chunks()
    if labels is not None:
        learned = most_consumed(seen.items, LEARNED_WITH_LABELS)
    elif not seen.baskets:
        raise UserError("item embeddings: no session of a training user has 3 different items; give embeddings")
    shared, mean_size = ray.put(learned), seen.rows / max(seen.baskets, 1)
    gram = reduce_tasks(
        lambda b: _bucket_gram.remote(folder, b, shared, mean_size), _merge, buckets, "together", progress
    )
    if labels is None:
        task = _embeddings.remote(gram, action_dim)
    else:
        task = _labelled_embeddings.remote(gram, learned, seen.items, labels, action_dim)
    (embeddings,) = run_tasks(lambda embed: embed, [task], "embeddings", progress)
    return ItemTable(ids.to_numpy(zero_copy_only=False), embeddings)


@dataclass(frozen=True, eq=False)
class FoundItems:
    """The items of some buckets: `item_id`, ascending, and how often training users took each (`count`)."""

    items: pa.Table
    baskets: int  # those of training users that count for `mdp.embeddings`
    rows: int  # the sum of their sizes

    def merge(self, other: FoundItems) -> FoundItems:
        """The items of both."""
        items = pa.concat_tables([self.items, other.items]).group_by("item_id").aggregate([("count", "sum")])
        items = items.rename_columns({"count_sum": "count"}).sort_by("item_id")
        return FoundItems(items, self.baskets + other.baskets, self.rows + other.rows)


def most_consumed(items: pa.Table, limit: int) -> pa.Array:
    """The ids, ascending, of the `limit` items of the largest counts; among equal counts the smaller ids."""
    first = items.sort_by([("count", "descending"), ("item_id", "ascending")])[:limit]
    return first.filter(pc.greater(first["count"], 0)).sort_by("item_id")["item_id"].combine_chunks()


def _baskets(folder: str, bucket: int) -> tuple[np.ndarray, pa.ChunkedArray]:
    """A label a session and the items of the training users' requests."""
    rows = read_bucket(folder, bucket, ["user_id", "item_id", "session", "split"])
    rows = rows.filter(pc.equal(rows["split"], 0))
    session = rows["session"].to_numpy()
    return codes(rows["user_id"]) * (session.max(initial=0) + 1) + session, rows["item_id"]


@ray.remote(num_cpus=1)
def _bucket_items(folder: str, bucket: int) -> FoundItems:
    session, taken = _baskets(folder, bucket)
    sizes = basket_sizes(session, codes(taken))
    rows = read_bucket(folder, bucket, ["item_id", "split"])
    training = pc.equal(rows["split"], 0).cast(pa.int64())
    items = pa.table({"item_id": rows["item_id"], "count": training})
    none = FoundItems(items.slice(0, 0), 0, 0)
    return FoundItems(items, len(sizes), int(sizes.sum())).merge(none)


@ray.remote(num_cpus=1)
def _merge_items(*parts: FoundItems) -> FoundItems:
    return reduce(FoundItems.merge, parts)


@ray.remote(num_cpus=1)
def _bucket_gram(folder: str, bucket: int, ids: pa.Array, mean_size: float) -> BasketGram:
    session, items = _baskets(folder, bucket)
    row = pc.index_in(items, ids)
    known = pc.is_valid(row).to_numpy()
    return basket_gram(session[known], row.drop_null().to_numpy().astype(np.int64), len(ids), mean_size)


@ray.remote(num_cpus=1)
def _merge(*parts: BasketGram) -> BasketGram:
    return reduce(BasketGram.merge, parts)


@ray.remote(num_cpus=1)
def _embeddings(gram: BasketGram, dim: int) -> np.ndarray:
    return embeddings_from_gram(gram, dim)


@ray.remote(num_cpus=1)
def _labelled_embeddings(
    gram: BasketGram, learned: pa.Array, items: pa.Table, labels: LabelsOf, dim: int
) -> np.ndarray:
    together = np.full((items.num_rows, dim), np.nan, dtype=np.float32)
    known = gram.counts > 0
    if known.sum() >= dim + 2:  # else there is nothing to learn from: labels alone
        rows = pc.index_in(learned.filter(pa.array(known)), items["item_id"].combine_chunks()).to_numpy()
        together[rows] = embeddings_from_gram(gram, dim)[known]
    given = labels(items["item_id"].to_numpy())
    return content_embeddings(together, given.tags, given.maker, items["count"].to_numpy(), dim)
