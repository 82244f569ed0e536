import numpy as np

from prefrec_ray.evaluation.results.scores import bootstrap_interval, repetition_seed, widened


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


def test_an_interval_with_the_scatter_of_repetitions_covers_the_truth() -> None:
    """Users differ by 1, three repetitions by 0.1: the interval over users only is too narrow."""
    rng = np.random.default_rng(0)
    alone = both = 0
    for draw in range(300):
        users = rng.normal(size=(400, 1))
        repeated = users.mean() + 0.1 * rng.normal(size=(3, 1))
        values = users + repeated.mean() - users.mean()
        low, high = bootstrap_interval(values, seed=draw, resamples=200)
        alone += int(low[0] < 0 < high[0])
        low, high = widened(low, high, repeated)
        both += int(low[0] < 0 < high[0])
    assert alone < 0.90 * 300
    assert both >= 0.93 * 300


def test_one_repetition_scatters_by_nothing_and_equal_ones_neither() -> None:
    low, high = np.array([0.5]), np.array([2.0])
    for repeated in (np.array([[1.0]]), np.array([[1.0]] * 3)):
        assert [bound.tolist() for bound in widened(low, high, repeated)] == [[0.5], [2.0]]


def test_the_interval_is_that_of_users_drawn_again_one_by_one() -> None:
    values = np.random.default_rng(5).normal(size=(7, 2, 3))
    low, high = bootstrap_interval(values, seed=6, level=0.8, resamples=40)
    rng = np.random.default_rng(6)
    means = [np.mean([values[user] for user in rng.integers(0, 7, 7)], axis=0) for _ in range(40)]
    np.testing.assert_allclose(low, np.quantile(means, 0.1, axis=0))
    np.testing.assert_allclose(high, np.quantile(means, 0.9, axis=0))
    interval = bootstrap_interval(values, seed=6)
    np.testing.assert_array_equal(interval, bootstrap_interval(values, seed=6, level=0.95, resamples=1000))


def test_two_repetitions_widen_by_students_t() -> None:
    low, high = widened(np.array([2.0]), np.array([5.0]), np.array([[3.0], [4.0]]))
    half = 12.706 * np.std([3.0, 4.0], ddof=1) / np.sqrt(2)  # 97.5 % of t with one degree of freedom
    np.testing.assert_allclose(low, 3.5 - np.hypot(1.5, half), rtol=1e-4)
    np.testing.assert_allclose(high, 3.5 + np.hypot(1.5, half), rtol=1e-4)
    narrow, _ = widened(np.array([2.0]), np.array([5.0]), np.array([[3.0], [4.0]]), level=0.5)
    np.testing.assert_allclose(narrow, 3.5 - np.hypot(1.5, 0.5), rtol=1e-4)  # 75 % of it is 1


def test_every_column_is_widened_by_its_own_scatter() -> None:
    rng = np.random.default_rng(7)
    low, high, repeated = rng.normal(-3, 1, (2, 3)), rng.normal(3, 1, (2, 3)), rng.normal(size=(4, 2, 3))
    bounds = widened(low, high, repeated)
    for cell in np.ndindex(2, 3):
        alone = widened(low[cell], high[cell], repeated[:, *cell])
        np.testing.assert_allclose([bound[cell] for bound in bounds], alone)


def test_repetitions_of_two_evaluations_share_no_seed() -> None:
    seeds = [repetition_seed(seed, number) for seed in range(100) for number in range(10)]
    assert len(set(seeds)) == len(seeds)
