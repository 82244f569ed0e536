"""States stored as float16: the same data set up to rounding, half the space, training in float32."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_platform import NETWORKS, prepare_logs

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset, stored, tensor
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run
from prefrec_ray.settings import parse

FOLDERS = (("requests", "train"), ("requests", "validation"), ("requests", "test"), ("transitions",))


@pytest.fixture(scope="module")
def datasets(small_platform: Path) -> dict[str, PreparedDataset]:
    return {
        "float32": PreparedDataset.open(str(small_platform / "dataset")),
        "float16": prepare_logs(small_platform, "float16", state_type="float16"),
    }


def test_states_are_rounded_and_nothing_else_changes(datasets: dict[str, PreparedDataset]) -> None:
    whole, half = datasets["float32"], datasets["float16"]
    for folder in FOLDERS:
        for one, other in zip(whole.files(*folder), half.files(*folder), strict=True):
            expected, rounded = whole.read(one), half.read(other)
            assert expected.column_names == rounded.column_names
            for name in expected.column_names:
                if name in ("state", "obs", "next_obs"):
                    assert stored(rounded[name]).dtype == np.float16
                    np.testing.assert_array_equal(stored(rounded[name]), stored(expected[name]).astype(np.float16))
                    np.testing.assert_allclose(tensor(rounded[name]), tensor(expected[name]), rtol=2**-11, atol=1e-7)
                    assert tensor(rounded[name]).dtype == np.float32
                else:
                    assert rounded[name].equals(expected[name])
    sizes = [storage.size(dataset.path("transitions")) for dataset in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_run_on_rounded_states(datasets: dict[str, PreparedDataset], tmp_path: Path) -> None:
    rows = {}
    for kind, how in (("float32", "materialised"), ("float16", "materialised"), ("float16", "streaming")):
        config = {**NETWORKS, "num_epochs": 1, "transitions": how}
        settings = parse(TrainSettings, {"recipe": "paper", "config": config}, "test")
        rows[kind, how] = start_run(settings, datasets[kind].uri, str(tmp_path / f"{kind}-{how}"))[-1]
    losses = [name for name, value in rows["float32", "materialised"].items() if "loss" in name and value is not None]
    assert losses
    for name in losses:
        exact, rounded, streamed = (row[name] for row in rows.values())
        assert rounded == streamed
        assert rounded == pytest.approx(exact, rel=0.02, abs=1e-3)


def test_a_chunked_column_is_joined_as_it_is_stored() -> None:
    values = np.arange(6, dtype=np.float16).reshape(3, 2)
    flat = pa.array(values.ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, 2)
    assert stored(pa.chunked_array([column, column])).dtype == np.float16
    np.testing.assert_array_equal(tensor(pa.chunked_array([column, column])), np.concatenate([values, values]))
