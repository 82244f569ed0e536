"""Opening a data set, tensors as columns and back."""

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import SCHEMA_VERSION, PreparedDataset, check_complete, tensor, tensor_array, write_table
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.state import StateDefinition


def metadata(**changes: object) -> dict:
    good = {
        "schema_version": SCHEMA_VERSION,
        "counts": {},
        "state_dim": 2,
        "action_dim": 1,
        "action_low": -1.0,
        "action_high": 1.0,
        "state": {"feedback": [], "user_features": {}},
        "normaliser": {"mean": [0.0, 1.0], "std": [1.0, 2.0]},
        "settings": {},
        "seed": 0,
        "tasks": ["depth"],
        "teachers": ["any_users_sum"],
        "mixture_weight": 0.5,
    }
    return good | changes


def write(folder: Path, value: object) -> str:
    (folder / "metadata.json").write_text(json.dumps(value))
    return str(folder)


def test_open(tmp_path: Path) -> None:
    dataset = PreparedDataset.open(write(tmp_path, metadata()))
    assert dataset.metadata.tasks == ["depth"]
    assert dataset.normaliser.std.tolist() == [1.0, 2.0]
    write_table(pa.table({"obs": tensor_array(np.eye(2))}), dataset.path("part-1.parquet"))
    write_table(pa.table({"obs": tensor_array(np.ones((1, 2)))}), dataset.path("part-0.parquet"))
    first, second = dataset.files()
    assert first.endswith("part-0.parquet")
    np.testing.assert_array_equal(tensor(dataset.read(second, ["obs"])["obs"]), np.eye(2))
    with pytest.raises(UserError, match=r"part-2.parquet: no such file"):
        dataset.read(dataset.path("part-2.parquet"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (metadata(schema_version=SCHEMA_VERSION + 1), "found schema version 2; expected 1"),
        ({"anything": 1}, "found schema version None; expected 1"),
        ([1], "found schema version None; expected 1"),
        (metadata(state_dim="wide"), "key 'state_dim'"),
    ],
)
def test_another_schema_version(tmp_path: Path, value: object, words: str) -> None:
    with pytest.raises(UserError) as caught:
        PreparedDataset.open(write(tmp_path, value))
    assert "metadata.json" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("counts", "missing"),
    [
        ({"validation": {"requests": 0, "sessions": 0}}, "train"),
        ({"train": {"sessions": 0, "transitions": 0}}, "requests"),
        ({"train": {"requests": 0, "transitions": 0}}, "sessions"),
        ({"train": {"requests": 0, "sessions": 0}}, "transitions"),
    ],
)
def test_counts_without_a_number_are_one_line(tmp_path: Path, counts: dict, missing: str) -> None:
    state = StateDefinition(feedback=(), user_features={}, action_dim=1)
    scale = {"mean": [0.0] * state.width, "std": [1.0] * state.width}
    changes = {"counts": counts, "state_dim": state.width, "state": state.model_dump(mode="json"), "normaliser": scale}
    folder = write(tmp_path, metadata(**changes))
    with pytest.raises(UserError, match=rf"metadata\.json: counts: '{missing}' is missing; make the data set again"):
        check_complete(PreparedDataset.open(folder))


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a prepared data set \(no metadata.json\)"):
        PreparedDataset.open(str(tmp_path / "nowhere"))


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(0, 20), width=st.integers(1, 5), cuts=st.lists(st.integers(0, 20), max_size=3))
def test_tensors_come_back_from_any_chunks(rows: int, width: int, cuts: list[int]) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    whole = tensor_array(values)
    edges = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    chunks = pa.chunked_array([whole.slice(a, b - a) for a, b in itertools.pairwise(edges)], whole.type)
    for column in (whole, chunks):
        array = tensor(column)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


def test_a_tensor_is_a_view() -> None:
    column = tensor_array(np.ones((3, 2)))
    assert np.shares_memory(tensor(column), column.flatten().to_numpy())


def test_a_data_set_as_arrays_and_tensors(tiny_dataset: str) -> None:
    dataset = PreparedDataset.open(tiny_dataset)
    tables = [dataset.read(file) for file in dataset.files("requests", "test")]
    requests = dataset.arrays("requests", "test")
    np.testing.assert_array_equal(requests["state"], np.concatenate([tensor(table["state"]) for table in tables]))
    assert requests["user_id"].tolist() == [user for table in tables for user in table["user_id"].to_pylist()]
    assert list(dataset.arrays("transitions", columns=["reward", "obs"])) == ["reward", "obs"]
    tensors = dataset.tensors("requests", "test", columns=["state", "action"])
    assert {name: (value.dtype, len(value)) for name, value in tensors.items()} == dict.fromkeys(
        ("state", "action"), (torch.float32, len(requests["state"]))
    )
    pairs = dataset.read(dataset.path("preferences", "depth", "train.parquet"))
    labels = dataset.tensors("preferences", "depth", "train.parquet")["label"]
    assert labels.tolist() == pairs["label"].to_pylist()
    for parts in (("preferences", "depth", "test.parquet"), ("requests", "nowhere")):
        with pytest.raises(UserError, match="no files"):
            dataset.arrays(*parts)


def test_what_a_data_set_holds_as_data_sets_of_ray(tiny_dataset: str) -> None:
    dataset = PreparedDataset.open(tiny_dataset)
    files = dataset.files("transitions")
    rows = dataset.ray_data("transitions", columns=["obs", "reward"]).take_all()
    tables = [dataset.read(file, ["obs", "reward"]) for file in files]
    assert [row["reward"] for row in rows] == [value for table in tables for value in table["reward"].to_pylist()]
    np.testing.assert_array_equal([row["obs"] for row in rows], np.concatenate([tensor(t["obs"]) for t in tables]))
    requests = dataset.ray_data("requests", "validation").take_batch(5)
    assert requests["state"].shape == (5, dataset.metadata.state_dim)
    pairs = dataset.ray_data("preferences", "depth", "train.parquet").to_pandas()
    assert len(pairs) == len(dataset.read(dataset.path("preferences", "depth", "train.parquet")))
    with pytest.raises(UserError, match="no files"):
        dataset.ray_data("preferences", "mixture", "test.parquet")
