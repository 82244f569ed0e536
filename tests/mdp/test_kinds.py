"""Kinds of items: clusters of embeddings, and codes of categories and makers."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import ItemKind, KindNames, clusters, content_kinds


@pytest.mark.parametrize("groups", [8, 23])
def test_separate_groups_are_found_in_any_unit(groups: int) -> None:
    rng = np.random.default_rng(groups)
    centres, group = rng.uniform(-1, 1, (groups, 4)), np.arange(600) % groups
    embeddings = (centres[group] + 0.01 * rng.normal(size=(600, 4))).astype(np.float32)
    for unit in (1.0, 100.0):
        found = clusters(unit * embeddings)
        assert len(np.unique(found)) == groups
        assert len(np.unique(np.stack([found, group]), axis=1).T) == groups  # one to one
    np.testing.assert_array_equal(clusters(embeddings), clusters(embeddings))


def test_few_distinct_items_are_one_cluster() -> None:
    assert clusters(np.zeros((0, 3), np.float32)).tolist() == []
    assert clusters(np.ones((50, 3), np.float32)).tolist() == [0] * 50


def test_each_feature_and_the_maker_are_a_kind() -> None:
    """Tags 0 to 2 belong to one feature, tag 3 to another; tag 1 is the most frequent one of the first feature."""
    tags = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], np.float32))
    topic, mood = content_kinds(tags, np.array([0, 0, 0, 1]), ["topic", "mood"], ["art", "news", "pop", "calm"])
    assert topic.codes.tolist() == [1, 1, 2, -1]
    assert topic.names == ("topic", {"art": 0, "news": 1, "pop": 2})
    assert mood.codes.tolist() == [-1, 3, -1, -1]
    assert mood.names == ("mood", {"calm": 3})
    maker = ItemKind.from_makers(np.array([7, -1, 7, 3]), "creator")
    assert maker.names.name == "creator"
    assert [maker.find("3"), maker.find("7")] == maker.codes[[3, 0]].tolist()
    assert maker.codes[0] == maker.codes[2] != maker.codes[3]
    assert maker.codes[1] == -1


def test_a_kind_is_found_by_name_also_in_a_file(tmp_path) -> None:
    names = (KindNames("cluster", {"0": 0, "1": 1}), KindNames("category", {"news": 5, 'Ünïcode, "pop"': 6}))
    codes = np.array([[0, 5], [1, 6], [1, -1]], np.int32)
    items = ItemTable(np.arange(3), np.eye(3), kind_codes=codes, kind_names=names)
    items.save(str(tmp_path / "items.parquet"))
    loaded = ItemTable.load(str(tmp_path / "items.parquet"))
    assert loaded.kind_names == names
    category = loaded.kind("category")
    np.testing.assert_array_equal(category.codes, codes[:, 1])
    assert category.find('Ünïcode, "pop"') == 6
    np.testing.assert_array_equal(loaded.kind("cluster").codes, codes[:, 0])
    with pytest.raises(UserError, match=r"^category: found value 'sport'; expected one of news, "):
        category.find("sport")
    with pytest.raises(UserError, match=r"^items: found kind 'maker'; expected one of cluster, category$"):
        loaded.kind("maker")


def test_a_file_without_names_has_only_clusters() -> None:
    items = ItemTable(np.arange(3), np.eye(3), kind_codes=np.array([[0, 5], [2, 6], [2, -1]]))
    assert items.kind("cluster").find("2") == 2
    with pytest.raises(UserError, match=r"^cluster: found value '1'; expected one of 0, 2$"):
        items.kind("cluster").find("1")
    with pytest.raises(UserError, match=r"^items: found kind 'category'; expected one of cluster$"):
        items.kind("category")


def test_names_of_another_number_of_kinds_and_unreadable_names_are_refused() -> None:
    names = (KindNames("cluster", {"0": 0}),)
    with pytest.raises(UserError, match="found names of 1 kinds; expected 2"):
        ItemTable(np.arange(3), np.eye(3), kind_codes=np.zeros((3, 2)), kind_names=names)
    table = ItemTable(np.arange(3), np.eye(3), kind_codes=np.zeros((3, 1)), kind_names=names).to_table()
    for stored in ("{", "[1]", '[["a", ["b"]]]', '[["a", {"b": "c"}]]'):
        with pytest.raises(UserError, match="column 'kinds': found unreadable names"):
            ItemTable.from_table(table.replace_schema_metadata({"kinds": stored}))


def test_kinds_are_kept_in_the_file_and_computed_for_older_files(tmp_path) -> None:
    rng = np.random.default_rng(0)
    bare = ItemTable(np.arange(40), rng.uniform(-1, 1, (40, 3)))
    bare.save(str(tmp_path / "old.parquet"))
    old = ItemTable.load(str(tmp_path / "old.parquet"))
    assert old.kind_codes is None
    np.testing.assert_array_equal(old.kinds[:, 0], clusters(bare.embeddings))
    codes = rng.integers(-1, 5, (40, 2))
    replace(bare, kind_codes=codes).save(str(tmp_path / "new.parquet"))
    new = ItemTable.load(str(tmp_path / "new.parquet"))
    np.testing.assert_array_equal(new.kinds, codes)
    assert new.kinds.dtype == np.int32


@pytest.mark.parametrize("codes", [np.zeros((3, 1)), np.full((4, 1), -2), np.zeros(4)])
def test_codes_of_another_shape_or_range_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"column 'kinds' is not a list of codes per item \(4\)"):
        ItemTable(np.arange(4), np.zeros((4, 2)), kind_codes=codes)


def test_codes_of_another_type_are_refused() -> None:
    table = ItemTable(np.arange(4), np.zeros((4, 2))).to_table().append_column("kinds", pa.array(["a"] * 4))
    with pytest.raises(UserError, match="column 'kinds' is string; expected fixed_size_list<int32>"):
        ItemTable.from_table(table)
