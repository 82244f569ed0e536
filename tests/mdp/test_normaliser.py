import json

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.normaliser import Moments, Normaliser


def fitted(rows, parts):
    total = Moments.zero(rows.shape[1])
    for part in np.array_split(rows, parts):
        moments = Moments.zero(rows.shape[1])
        moments.add(part)
        total.merge(moments)
    return total


def test_summed_moments_give_mean_and_standard_deviation():
    rows = np.random.default_rng(0).normal([5.0, -2.0, 0.0], [0.1, 3.0, 1.0], (500, 3)).astype(np.float32)
    normaliser = fitted(rows, 7).normaliser()
    np.testing.assert_allclose(normaliser.mean, rows.astype(float).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(normaliser.std, rows.astype(float).std(axis=0), rtol=1e-6)
    scaled = normaliser(rows)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=1e-3)


def test_extremes_are_clipped_and_the_input_stays():
    raw = np.array([[100.0, -100.0, 1.0]], dtype=np.float32)
    normaliser = Normaliser(np.zeros(3), np.array([1.0, 2.0, 0.5]))
    assert normaliser(raw).tolist() == [[5.0, -5.0, 2.0]]
    assert raw.tolist() == [[100.0, -100.0, 1.0]]


@pytest.mark.parametrize("value", [0.0, 0.1, -1.0, 1234.5])
def test_a_constant_column_becomes_zero(value):
    rows = np.full((1000, 1), value, dtype=np.float32)
    np.testing.assert_allclose(fitted(rows, 3).normaliser()(rows), 0.0, atol=1e-6)


def test_a_rare_category_is_not_taken_for_constant():
    rows = np.zeros((100_000, 1), dtype=np.float32)
    rows[7] = 1.0
    assert fitted(rows, 2).normaliser()(rows)[7, 0] == 5.0


def test_one_hot_columns_keep_their_size():
    rows = np.random.default_rng(0).normal(3.0, [0.1, 3.0, 0.2, 0.3], (500, 4)).astype(np.float32)
    normaliser = fitted(rows, 2).normaliser(one_hot=slice(1, 3))
    np.testing.assert_allclose(normaliser.mean, rows.astype(float).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(normaliser.std[[0, 3]], rows[:, [0, 3]].astype(float).std(axis=0), rtol=1e-5)
    assert normaliser.std[1:3].tolist() == [1.0, 1.0]


def test_round_trip_through_json_is_exact():
    normaliser = Normaliser(np.array([0.1, 1 / 3]), np.array([1e-3, 7.7]))
    again = Normaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())), "x")
    np.testing.assert_array_equal(again.mean, normaliser.mean)
    np.testing.assert_array_equal(again.std, normaliser.std)


def test_refuses_what_cannot_scale():
    with pytest.raises(UserError, match="found no rows of training users"):
        Moments.zero(2).normaliser()
    with pytest.raises(UserError, match="not positive"):
        Normaliser(np.zeros(2), np.array([1.0, 0.0]))
    with pytest.raises(UserError, match="expected one length"):
        Normaliser(np.zeros(2), np.ones(3))
