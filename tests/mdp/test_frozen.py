"""Frozen rows do not change when later values are written between two slices."""

import numpy as np
import pytest

from prefrec_ray.mdp import frozen
from prefrec_ray.mdp.users import UserRows


@pytest.mark.parametrize("slice_bytes", [1, 100, 1 << 20])
def test_slices_are_as_at_the_time_of_the_freeze(monkeypatch: pytest.MonkeyPatch, slice_bytes: int) -> None:
    monkeypatch.setattr(frozen, "SLICE_BYTES", slice_bytes)
    rng = np.random.default_rng(slice_bytes)
    rows = UserRows({"counts": np.zeros(0, np.int64), "sums": np.zeros((0, 3), np.float32), "none": np.zeros((0, 0))})
    rows.grow(37)

    def change() -> None:
        """Write some rows, also new ones, and add rows, so that the arrays are replaced now and then."""
        if rng.random() < 0.3:
            rows.grow(int(rng.integers(0, 9)))
        mine = rng.permutation(len(rows))[: rng.integers(0, 5)]
        rows.write(mine, "counts", rng.integers(0, 1000, len(mine)))
        rows.write(mine, "sums", rng.normal(size=(len(mine), 3)))

    def take(copy):
        change()
        return copy()

    for _ in range(3):
        change()
        expected = {name: array.copy() for name, array in rows.read(slice(0, len(rows))).items()}
        held = rows.freeze()
        for name, array in held.sliced(take).items():
            assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
            assert array.whole().tobytes() == expected[name].tobytes()
        held.end()
    change()
    assert held.sliced(take) == {}


def test_all_rows_are_written_at_once_after_the_end() -> None:
    rows = UserRows({"counts": np.zeros(0, np.int64)})
    rows.grow(3)
    rows.freeze().end()
    rows.write(slice(0, 3), "counts", np.array([4, 5, 6]))
    np.testing.assert_array_equal(rows.read(slice(0, 3))["counts"], [4, 5, 6])
