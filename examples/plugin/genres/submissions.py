"""Submissions to the bench: functions that return a server of n users from their features and random numbers."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow.parquet as pq

from prefrec_ray.bench.baselines import Given
from prefrec_ray.simulator.servers import FirstOf, RandomItems

Make = Callable[[Mapping[str, np.ndarray], np.random.Generator], RandomItems | FirstOf]


def random_items(given: Given) -> Make:
    """Serve random items."""
    items = pq.read_metadata(f"{given.logs}/items.parquet").num_rows
    return lambda features, rng: RandomItems(items, rng)


def most_liked(given: Given) -> Make:
    """Serve the item with most likes in the raw log, if the world does not exclude it."""
    log = pq.read_table(f"{given.logs}/interactions", columns=["item_id", "like"])
    items = pq.read_metadata(f"{given.logs}/items.parquet").num_rows
    likes = np.bincount(log["item_id"], np.asarray(log["like"]), items)
    return lambda features, rng: FirstOf(np.argsort(-likes, kind="stable"))
