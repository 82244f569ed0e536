import numpy as np

from prefrec_ray.evaluation.intervals import bootstrap_interval


def test_equals_the_normal_interval_of_many_users():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=4000)
    low, high = bootstrap_interval(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.1 * half)


def test_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 400))
    low, high = bootstrap_interval(values, seed=2)
    covered = ((low < 0) & (high > 0)).mean()
    assert 0.90 < covered < 0.98


def test_columns_see_the_same_users():
    values = np.random.default_rng(3).normal(size=(200, 1)) * [[5.0, 5.0]] + [[0.0, 1.0]]
    low, high = bootstrap_interval(np.column_stack([values, values[:, 1] - values[:, 0]]), seed=0)
    np.testing.assert_allclose([low[2], high[2]], [1, 1])
    assert high[0] - low[0] > 0.5


def test_depends_on_the_seed_alone():
    values = np.random.default_rng(4).normal(size=(50, 2))
    assert np.array_equal(bootstrap_interval(values, 7), bootstrap_interval(values, 7))
    assert not np.array_equal(bootstrap_interval(values, 7), bootstrap_interval(values, 8))
