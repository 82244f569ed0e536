"""Bounds of records by hand: users drawn again, networks that scatter, an error that is a share of a gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import Subject
from prefrec_ray.evaluation.results.records import Evaluation, Support
from prefrec_ray.evaluation.results.scores import Scores, bootstrap_interval, widened
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.ids import repetition_seed

SEED, USERS, SHARE = 3, 30, 0.2
#: Student's t of two degrees of freedom at 97.5 %.
T = 4.30265273
SUBJECTS = [Subject("a", "m", "policy"), Subject("b", "m", "policy"), Subject("random items", "-", "placebo")]


def scores(networks: bool, relative_error: float) -> Scores:
    """Three subjects with `b` as the best policy, and three networks."""
    rng = np.random.default_rng(0)
    values, logging = rng.normal([2.0, 3.0, 1.0], 0.5, (USERS, 3)), rng.normal(1.5, 0.5, USERS)
    scatter = rng.normal(0, 0.1, (3, 4))
    by_network = scatter - scatter.mean(axis=0) + [*values.mean(axis=0), logging.mean()]
    about = {"users": USERS, "sessions": 90, "users_left_out": 0}
    nets = (by_network[:, :3], by_network[:, 3:]) if networks else None
    errors = np.full(3, relative_error)
    return Scores("depth", "fqe", SUBJECTS, values, logging, None, about, {}, nets, relative_error=errors)


def bounds(value: np.ndarray, by_network: np.ndarray | None, error: float) -> tuple[float, float]:
    """Return the interval of the mean of `value` [U]: half-widths add as squares."""
    rng = np.random.default_rng(SEED)
    low, high = np.quantile([value[rng.integers(0, USERS, USERS)].mean() for _ in range(1000)], [0.025, 0.975])
    half = 0.0 if by_network is None else T * by_network.std(ddof=1) / np.sqrt(3)
    below, above = (np.sqrt(bound**2 + half**2 + error**2) for bound in (value.mean() - low, high - value.mean()))
    return value.mean() - below, value.mean() + above


@pytest.mark.parametrize("networks", [True, False])
@pytest.mark.parametrize("relative_error", [SHARE, 0.0])
def test_bounds_hold_users_networks_and_a_share_of_the_gain(networks: bool, relative_error: float) -> None:
    known = scores(networks, relative_error)
    nets, logging = known.networks or (None, None)
    for i, record in enumerate(known.records(SEED)):
        value = known.values[:, i]
        gain, lead = value - known.logging, known.values[:, 1] - value
        error = relative_error * abs(gain.mean())  # of the level too: it is the logged one and a gain
        by_network = None if nets is None else nets[:, i]
        assert (record.ci_low, record.ci_high) == pytest.approx(bounds(value, by_network, error))
        gain_by_network = None if nets is None or logging is None else nets[:, i] - logging[:, 0]
        assert (record.gain_ci_low, record.gain_ci_high) == pytest.approx(bounds(gain, gain_by_network, error))
        if record.subject != "a":
            assert (record.best, record.behind_ci_low, record.behind_ci_high) == (None, None, None)
            continue
        lead_by_network = None if nets is None else nets[:, 1] - nets[:, i]
        lead_error = relative_error * abs(lead.mean())
        assert abs(lead.mean()) > 1.5 * abs(gain.mean())  # one error is not the other
        assert record.best == "b"
        behind = (record.behind_ci_low, record.behind_ci_high)
        assert behind == pytest.approx(bounds(lead, lead_by_network, lead_error))


@given(
    users=st.integers(1, 6),
    networks=st.integers(1, 3),
    spread=st.floats(0, 8),
    relative_error=st.sampled_from([0.0, SHARE]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_no_level_and_no_bound_is_outside_its_range(
    users: int, networks: int, spread: float, relative_error: float, seed: int
) -> None:
    """A level is within 0 and 5, a gain or a lead within -5 and 5, also if networks disagree or extrapolate."""
    rng = np.random.default_rng(seed)
    nets = rng.normal(2.5, spread, (networks, 3)), rng.normal(2.5, spread, (networks, 1))
    values, logging = np.tile(nets[0].mean(axis=0), (users, 1)), np.full(users, nets[1].mean())
    about = {"users": users, "sessions": 4, "users_left_out": 0}
    errors = np.full(3, relative_error)
    one = Scores("depth", "fqe", SUBJECTS, values, logging, None, about, {}, nets, relative_error=errors)
    for record in one.records(SEED):
        assert 0 <= record.ci_low <= record.value <= record.ci_high <= 5
        assert 0 <= record.behaviour <= 5
        assert -5 <= record.gain_interval[0] <= record.gain_interval[1] <= 5
        if record.best is not None:
            assert -5 <= record.behind_ci_low <= record.behind_ci_high <= 5
        if not 0 < record.ci_low <= record.ci_high < 5 and not relative_error:
            assert record.reaches_end


@pytest.mark.parametrize("relative_error", [SHARE, 0.0])
@pytest.mark.parametrize(("level", "logged"), [(3.0, 1.0), (1.0, 3.0), (5.0, 0.5)])
def test_one_user_says_nothing_of_others(relative_error: float, level: float, logged: float) -> None:
    """Drawn again it is always the same one, and its interval was a point: a candidate, or nothing to ship."""
    about = {"users": 1, "sessions": 4, "users_left_out": 0}
    values, nets = np.array([[level, 0.5, 2.0]]), (np.tile([level, 0.5, 2.0], (3, 1)), np.full((3, 1), logged))
    one = Scores("depth", "model", SUBJECTS, values, np.array([logged]), None, about, {}, nets)
    errors = np.full(3, relative_error)
    records = replace(one, settings={"relative_error": relative_error}, relative_error=errors).records(SEED)
    assert (records[0].ci_low, records[0].ci_high) == (0, 5)
    assert records[0].reaches_end
    support = {"a": Support(states=1.0)}
    said = verdicts(Evaluation(records=tuple(records), support=support))["a"]
    assert said.verdict == "inconclusive"
    assert "not converged" in said.reasons[0]


def test_the_error_of_a_difference_is_at_most_the_sum_of_the_errors_of_both_gains() -> None:
    """The current policy is nearly the logging policy: its error of .1 is five times its gain of .02."""
    values = np.tile([0.41, 1.02], (USERS, 1))  # users do not differ
    subjects = [Subject("a", "m", "policy"), Subject("current", "m", "control")]
    about = {"users": USERS, "sessions": 90, "users_left_out": 0}
    known = Scores("depth", "model", subjects, values, np.ones(USERS), None, about, {}, current=1)
    for share in (0.1 / 0.59, 0.5):  # of a loss of .59: an error of .1, and of .295
        (record, _) = replace(known, relative_error=np.array([share, 5.0])).records(SEED)
        low, high = record.gain_over_current_ci
        assert (low, high) == pytest.approx((-0.61 - 0.59 * share - 0.1, -0.61 + 0.59 * share + 0.1))
    # A loss of .59 and a gain of .02 with an error of a tenth: a tenth of the difference.
    (record, _) = replace(known, relative_error=np.array([0.1, 0.1])).records(SEED)
    assert record.gain_over_current_ci == pytest.approx((-0.671, -0.549))


def test_a_value_that_is_not_finite_is_one_line() -> None:
    known = scores(False, 0.0)
    known.values[3, 1] = np.nan
    with pytest.raises(UserError, match="estimator 'fqe': found a value that is not finite"):
        known.records(SEED)


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
    low, high = bootstrap_interval(values, seed=6, resamples=40)
    rng = np.random.default_rng(6)
    means = [np.mean([values[user] for user in rng.integers(0, 7, 7)], axis=0) for _ in range(40)]
    np.testing.assert_allclose(low, np.quantile(means, 0.025, axis=0))
    np.testing.assert_allclose(high, np.quantile(means, 0.975, axis=0))
    interval = bootstrap_interval(values, seed=6)
    np.testing.assert_array_equal(interval, bootstrap_interval(values, seed=6, resamples=1000))


def test_two_repetitions_widen_by_students_t() -> None:
    low, high = widened(np.array([2.0]), np.array([5.0]), np.array([[3.0], [4.0]]))
    half = 12.706 * np.std([3.0, 4.0], ddof=1) / np.sqrt(2)  # 97.5 % of t with one degree of freedom
    np.testing.assert_allclose(low, 3.5 - np.hypot(1.5, half), rtol=1e-4)
    np.testing.assert_allclose(high, 3.5 + np.hypot(1.5, half), rtol=1e-4)


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
