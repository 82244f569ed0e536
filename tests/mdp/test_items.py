import dataclasses
import pickle
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.mdp import items
from prefrec_ray.mdp.items import ItemTable, smallest


def table(count=50, dim=4, seed=0, ids=None):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(count * 10)[:count] if ids is None else ids
    return ItemTable(ids, rng.uniform(-1, 1, (len(ids), dim)))


def brute_force(embeddings, action, k):
    loss = [sum((float(a) - float(e)) ** 2 for a, e in zip(action, row, strict=True)) for row in embeddings]
    return sorted(range(len(loss)), key=loss.__getitem__)[:k]


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("at_once", [1, 7 * 50, 1 << 22])
def test_nearest_equals_brute_force_whatever_the_chunk(monkeypatch, k, at_once):
    monkeypatch.setattr(items, "_SCORES_AT_ONCE", at_once)
    catalogue = table()
    actions = np.random.default_rng(1).uniform(-1, 1, (20, 4)).astype(np.float32)
    expected = [brute_force(catalogue.embeddings, action, k) for action in actions]
    assert catalogue.nearest(actions, k).tolist() == expected


@pytest.mark.parametrize("k", [2, 30])
def test_among_many_items_too(k):
    catalogue = table(count=9000)
    assert k * items._STRIDE**2 <= len(catalogue)
    actions = np.random.default_rng(1).uniform(-1, 1, (5, 4)).astype(np.float32)
    expected = [brute_force(catalogue.embeddings, action, k) for action in actions]
    assert catalogue.nearest(actions, k).tolist() == expected
    # Any of several equal items may be taken, but none twice.
    twins = ItemTable(np.arange(9000), np.repeat(catalogue.embeddings[:300], 30, axis=0))
    rows = twins.nearest(actions, k)
    assert all(len(set(row)) == k for row in rows.tolist())
    assert set((rows // 30).ravel()) == {row // 30 for a in actions for row in brute_force(twins.embeddings, a, 1)}


def test_what_nearness_needs_of_the_items_is_made_once_and_stays_out_of_pickles(monkeypatch):
    catalogue, action = table(), np.zeros((1, 4), np.float32)
    size, squares = len(pickle.dumps(catalogue)), []
    monkeypatch.setattr(items.np, "einsum", lambda *a, einsum=np.einsum: squares.append(a) or einsum(*a))
    for _ in range(2):
        catalogue.nearest(action, 1)
    assert len(squares) == 1
    assert len(pickle.dumps(catalogue)) == size
    again = pickle.loads(pickle.dumps(catalogue))
    assert again.nearest(action, 50).tolist() == catalogue.nearest(action, 50).tolist()


@pytest.mark.parametrize("ids", [np.array([30, -4, 7, 12]), np.array(["d", "a", "long name", "c"])])
def test_rows_find_every_id(ids):
    catalogue = table(ids=ids)
    wanted = np.random.default_rng(0).integers(0, 4, 100)
    assert catalogue.rows(ids[wanted]).tolist() == wanted.tolist()
    assert catalogue.rows(ids[:0]).tolist() == []


def test_find_says_which_ids_the_table_lacks():
    assert table(ids=np.array([30, -4, 7])).find(np.array([7, 8, 30, -5])).tolist() == [2, -1, 0, -1]
    assert table(ids=np.array(["d", "a"])).find(np.array(["longer", "a"], dtype=object)).tolist() == [-1, 1]
    assert ItemTable(np.zeros(0, np.int64), np.zeros((0, 2))).find(np.array([1])).tolist() == [-1]


def test_one_long_text_does_not_widen_the_whole_table():
    ids = [f"item {n}" for n in range(20_000)]
    catalogue = table(ids=np.array(ids), dim=1)
    wanted = np.array(["item 7", "item 7" + "x" * 250, "item 19999" + "0", "item"])
    catalogue.find(wanted)
    tracemalloc.start()
    assert catalogue.find(wanted).tolist() == [7, -1, -1, -1]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("ids", "wanted", "message"),
    [
        (np.array([1, 5]), np.array([5, 9, 8]), "item_id: found 9; expected an item of the table of 2 items"),
        (np.array([1, 5]), np.array([0]), "item_id: found 0; expected an item"),
        (np.array(["a", "b"]), np.array(["b", "ab"]), "item_id: found ab; expected an item"),
        (np.array(["a", "b"]), np.array([3]), "item_id: found 3, int64; expected string ids as in the item table"),
        (np.array([1, 5]), np.array(["1"]), "item_id: found 1, string; expected int64 ids as in the item table"),
        (np.array([1, 5]), np.array([1.0]), "item_id of type float64; expected int64 or string"),
    ],
)
def test_unknown_ids_are_named(ids, wanted, message):
    with pytest.raises(UserError, match=message):
        table(ids=ids).rows(wanted)


def test_refuses_what_is_no_table():
    with pytest.raises(UserError, match="item_id 3 occurs more than once"):
        table(ids=np.array([3, 1, 3]))
    with pytest.raises(UserError, match="embedding of item 2 is not finite"):
        ItemTable(np.array([1, 2]), np.array([[0.0], [np.nan]]))
    with pytest.raises(UserError, match=r"2 ids and embeddings of shape \[3, 1\]"):
        ItemTable(np.array([1, 2]), np.zeros((3, 1)))
    with pytest.raises(UserError, match="found k = 51; expected 1 to 50, the number of items"):
        table().nearest(np.zeros((1, 4)), 51)


@pytest.mark.parametrize("ids", [np.array([30, -4, 7]), np.array(["d", "a", "long name"])])
def test_round_trip_through_parquet(tmp_path, ids):
    catalogue = table(ids=ids)
    catalogue.save(str(tmp_path / "items.parquet"))
    again = ItemTable.load(str(tmp_path / "items.parquet"))
    assert again.ids.tolist() == ids.tolist()
    np.testing.assert_array_equal(again.embeddings, catalogue.embeddings)
    parts = pa.concat_tables([catalogue.to_table().slice(0, 1), catalogue.to_table().slice(1)])
    np.testing.assert_array_equal(ItemTable.from_table(parts).embeddings, catalogue.embeddings)


def test_texts_about_items_go_with_them(tmp_path):
    about = pa.table({"title": ["Tea", None, "Milk"]})
    catalogue = dataclasses.replace(table(ids=np.array([30, -4, 7])), about=about)
    catalogue.save(str(tmp_path / "items.parquet"))
    for again in (ItemTable.load(str(tmp_path / "items.parquet")), pickle.loads(pickle.dumps(catalogue))):
        assert again.about.equals(about)
    assert table().about is None
    with pytest.raises(UserError, match="items: 50 ids and 3 rows of title"):
        dataclasses.replace(table(), about=about)


def test_bad_files_are_named(tmp_path):
    missing = str(tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items\.parquet: no such file"):
        ItemTable.load(missing)
    (tmp_path / "items.parquet").write_text("no Parquet")
    with pytest.raises(UserError, match=r"items\.parquet: damaged: its checksum differs"):
        ItemTable.load(missing)
    with pytest.raises(UserError, match="x: column 'embedding' is missing; found item_id"):
        ItemTable.from_table(pa.table({"item_id": [1]}), "x")
    with pytest.raises(UserError, match="column 'embedding' is double; expected fixed_size_list"):
        ItemTable.from_table(pa.table({"item_id": [1], "embedding": [0.5]}))
    with pytest.raises(UserError, match="column 'item_id': found 1 nulls"):
        ItemTable.from_table(pa.table({"item_id": [1, None], "embedding": [0.5, 0.1]}))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.5, 1.0]), st.booleans())
def test_the_smallest_are_found_where_most_are_infinite_or_equal(seed: int, finite: float, alike: bool) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 4))
    loss = np.zeros((3, 900)) if alike else rng.normal(size=(3, 900))
    loss[rng.random(loss.shape) >= finite] = np.inf
    columns = smallest(loss, k)
    np.testing.assert_array_equal(np.take_along_axis(loss, columns, axis=1), np.sort(loss, axis=1)[:, :k])
    assert all(len(set(row)) == k for row in columns.tolist())
