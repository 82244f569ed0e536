import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.evaluation.estimators import ncis

MODES = ("density", "ratio")
AGGREGATES = ("product", "geometric")


def plain_ncis(users, sigma, mode, aggregate, cap):
    """Eq. 12 with plain floats. `users`: a list a user of (level, [(logged, policy, clone), ...]) a session."""

    def normal(x, mean):
        return math.prod(
            math.exp(-((a - b) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
            for a, b in zip(x, mean, strict=True)
        )

    def weight(logged, policy, clone):
        return normal(logged, policy) / (1 if mode == "density" else normal(logged, clone))

    values, effective, sessions = [], 0.0, 0
    for user in users:
        rhos = []
        for _, requests in user:
            product = math.prod(weight(*request) for request in requests)
            rho = product if aggregate == "product" else product ** (1 / len(requests))
            rhos.append(min(rho, math.inf if cap is None else cap))
        values.append(sum(r * level for r, (level, _) in zip(rhos, user, strict=True)) / sum(rhos))
        effective += sum(rhos) ** 2 / sum(r * r for r in rhos)
        sessions += len(rhos)
    return values, effective / sessions


def library_ncis(users, sigma, mode, aggregate, cap):
    sessions = [(number, level, requests) for number, user in enumerate(users) for level, requests in user]
    actions = np.array([request for *_, requests in sessions for request in requests], dtype=np.float64)
    logged, policy, clone = actions[:, 0], actions[:, 1], actions[:, 2]
    depth = np.array([len(requests) for *_, requests in sessions])
    first = np.cumsum(depth) - depth
    number = np.array([number for number, *_ in sessions])
    level = np.array([level for _, level, _ in sessions], dtype=np.float64)
    log_weights = ncis.request_log_weights(logged, policy, clone, sigma, mode)
    weights = ncis.normalised_weights(number, ncis.session_log_weights(log_weights, first, aggregate, depth), cap)
    return ncis.user_values(number, level, weights), ncis.effective_share(number, weights)


number = st.floats(-1, 1, width=32)
action = st.tuples(number, number)
session = st.tuples(st.integers(0, 5), st.lists(st.tuples(action, action, action), min_size=1, max_size=4))
some_users = st.lists(st.lists(session, min_size=1, max_size=4), min_size=1, max_size=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
@settings(deadline=None, max_examples=25)
@given(users=some_users, sigma=st.floats(0.3, 2), cap=st.sampled_from([None, 0.5, 1.0, 10.0]))
def test_equals_eq_12_by_hand(mode, aggregate, users, sigma, cap):
    values, share = library_ncis(users, sigma, mode, aggregate, cap)
    plain_values, plain_share = plain_ncis(users, sigma, mode, aggregate, cap)
    np.testing.assert_allclose(values, plain_values, rtol=1e-9)
    assert share == pytest.approx(plain_share, rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(users=some_users, aggregate=st.sampled_from(AGGREGATES), log_weight=st.floats(-5, 5))
def test_equal_weights_give_the_value_of_the_logging_policy(users, aggregate, log_weight):
    depths = [len(requests) for user in users for _, requests in user]
    number = np.repeat(np.arange(len(users)), [len(user) for user in users])
    level = np.array([level for user in users for level, _ in user], dtype=np.float64)
    # One log weight for all sessions: for `product` a session's requests have to share it.
    per_request = np.repeat([log_weight / (d if aggregate == "product" else 1) for d in depths], depths)
    log_rho = ncis.session_log_weights(per_request, np.cumsum([0, *depths[:-1]]), aggregate, np.array(depths))
    weights = ncis.normalised_weights(number, log_rho, 10.0)
    logged = [np.mean([level for level, _ in user]) for user in users]
    np.testing.assert_allclose(ncis.user_values(number, level, weights), logged, rtol=1e-12)
    assert ncis.effective_share(number, weights) == pytest.approx(1)


def test_weights_far_below_the_smallest_float_still_count():
    user, level = np.array([0, 0, 1]), np.array([1.0, 3.0, 2.0])
    weights = ncis.normalised_weights(user, np.array([-9000.0, -9000.0 + math.log(3), -1e6]), None)
    np.testing.assert_allclose(ncis.user_values(user, level, weights), [2.5, 2.0])


def test_the_cap_bites_after_the_aggregation():
    # Two requests of weight 100 and .01: capped one by one the product were .1, capped after it is 1.
    log_rho = ncis.session_log_weights(
        np.log([100, 0.01, 1.0, 50.0]), np.array([0, 2, 3]), "product", np.array([2, 1, 1])
    )
    weights = ncis.normalised_weights(np.zeros(3, np.int64), log_rho, 10.0)
    np.testing.assert_allclose(weights, np.array([1, 1, 10]) / 4)


def test_every_column_is_as_if_it_were_alone():
    rng = np.random.default_rng(0)
    log_weights, user = rng.normal(size=(9, 3)), np.array([0, 0, 1, 1])
    first, depth = np.array([0, 2, 5, 6]), np.array([2, 3, 1, 3])
    for aggregate in AGGREGATES:
        together = ncis.session_log_weights(log_weights, first, aggregate, depth)
        alone = [ncis.session_log_weights(column, first, aggregate, depth) for column in log_weights.T]
        np.testing.assert_allclose(together, np.column_stack(alone))
        weights = ncis.normalised_weights(user, together, 2.0)
        each = [ncis.normalised_weights(user, column, 2.0) for column in alone]
        np.testing.assert_allclose(weights, np.column_stack(each))
        level = rng.integers(0, 6, 4)
        values = np.column_stack([ncis.user_values(user, level, weight) for weight in each])
        np.testing.assert_allclose(ncis.user_values(user, level, weights), values)
        shares = [ncis.effective_share(user, weight) for weight in each]
        np.testing.assert_allclose(ncis.effective_share(user, weights), shares)


def test_length_only_keeps_what_length_explains_and_nothing_else():
    rng = np.random.default_rng(1)
    relative_depth = rng.uniform(0.1, 2, 4000)
    by_length = np.where(relative_depth > np.median(relative_depth), 3.0, 1.0)
    noise = rng.uniform(0.5, 1.5, 4000)
    replaced = ncis.length_only_weights(relative_depth, np.column_stack([by_length, noise]))
    np.testing.assert_allclose(replaced[:, 0], by_length)
    assert replaced[:, 1].std() < 0.1 * noise.std()
    np.testing.assert_allclose(replaced.mean(axis=0), [by_length.mean(), noise.mean()])


def cells_of(depth: list[float], weight: list[float]) -> list[float]:
    """A session's cell is the number of inner deciles at or below its relative depth."""
    edges = sorted({float(np.quantile(depth, k / 10)) for k in range(1, 10)})
    cells = [sum(edge <= d for edge in edges) for d in depth]
    return [float(np.mean([w for w, other in zip(weight, cells, strict=True) if other == cell])) for cell in cells]


@pytest.mark.parametrize("values", [3, 20, 10_000])
def test_a_length_only_weight_is_the_mean_of_its_cell(values: int) -> None:
    rng = np.random.default_rng(0)
    depth, weight = rng.integers(1, values, 101) / 4, rng.random(101)
    means = ncis.length_only_weights(depth, weight)
    np.testing.assert_allclose(means, cells_of(depth.tolist(), weight.tolist()))


def test_there_are_ten_cells_and_a_depth_at_an_edge_is_above_it() -> None:
    """Deciles of 1 to 11 are 2 to 10: the first cell has the depth 1 only, the last 10 and 11."""
    depth, weight = np.arange(1.0, 12.0), np.arange(11.0) ** 2
    expected = [*weight[:9], 90.5, 90.5]
    np.testing.assert_allclose(ncis.length_only_weights(depth, weight), expected)
