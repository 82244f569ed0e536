"""Quantile bins: a value is drawn by the bin that contains it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.users.member import BINS, Bins


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300), st.integers(0, 99))
def test_every_value_is_in_the_bin_that_draws_it(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = Bins.from_values(np.array(values), rng)
    assert 1 <= len(bins) <= BINS
    code = bins.code(np.array(values))
    certain = np.where(np.eye(len(bins))[code] > 0, 0.0, -np.inf)
    drawn = bins.draw(certain, rng.random((2, len(values))))
    np.testing.assert_array_equal(bins.code(drawn), code)
    assert np.isin(drawn, values).all()


def test_bins_are_drawn_as_often_as_their_weights_say() -> None:
    rng = np.random.default_rng(0)
    bins = Bins.from_values(rng.normal(size=2000), rng)
    assert np.bincount(bins.code(bins.values)).tolist() == [125] * BINS
    logits = rng.normal(size=BINS)
    drawn = bins.code(bins.draw(np.tile(logits, (200_000, 1)), rng.random((2, 200_000))))
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=BINS) / 200_000, expected, atol=0.005)
