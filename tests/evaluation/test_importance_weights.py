"""Importance weights over items against sums over all that can happen."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hand_made import linear_policy, made_histories
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators import importance_weights
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.fitted_q import corrections, fit_subject, residuals, task_steps, user_means
from prefrec_ray.evaluation.estimators.fqe import steps
from prefrec_ray.evaluation.estimators.importance_weights import (
    ITEM_WEIGHTS,
    Logged,
    shown_before,
    weigh,
)
from prefrec_ray.evaluation.estimators.ncis import normalised_weights, user_values
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.session_weights import PAGE_WEIGHTS, WINDOW, ends, kish, request_weights
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import histories_of

#: Probabilities of two items in two states (0: the first impression of a session), logging policy and policy.
LOGGING = np.array([[0.5, 0.5], [0.25, 0.75]])
POLICY = np.array([[0.2, 0.8], [0.9, 0.1]])
#: The chance that a session ends after an item; after the third request it does.
ENDS = np.array([0.5, 0.25])
REQUESTS = 3


def paths() -> list[tuple[list[int], float, float]]:
    """Every session there can be: its items, and its chance under either policy."""
    sessions = []
    for length in range(1, REQUESTS + 1):
        for items in product((0, 1), repeat=length):
            goes = np.prod([1 - ENDS[item] for item in items[:-1]])
            goes *= 1.0 if length == REQUESTS else ENDS[items[-1]]
            state = [min(step, 1) for step in range(length)]
            chances = [
                goes * np.prod([law[s, i] for s, i in zip(state, items, strict=True)]) for law in (LOGGING, POLICY)
            ]
            sessions.append((list(items), *chances))
    return sessions


def level(items: list[int], of_first: float = 0.5) -> float:
    """Something that depends on all of a session."""
    return len(items) + of_first * items[0] + 0.25 * items[-1]


def table(counts: list[tuple[list[int], int]], of_first: float = 0.5) -> tuple[Histories, np.ndarray]:
    """One user with these sessions, so often each; and the log weights of all requests."""
    sessions = [items for items, count in counts for _ in range(count)]
    item = np.concatenate(sessions)
    depth = np.array([len(items) for items in sessions])
    first = np.cumsum(depth) - depth
    state = np.minimum(np.arange(len(item)) - np.repeat(first, depth), 1)
    levels = np.array([level(items, of_first) for items in sessions])
    nothing = np.zeros((len(item), 1), np.float32)
    user = np.zeros(len(depth), int)
    data = made_histories(nothing, nothing, first, user, levels, item, LOGGING[state, item])
    return data, np.log(POLICY[state, item] / LOGGING[state, item])


@pytest.mark.parametrize(("window", "of_first"), [(3, 0.5), (2, 0.0), (1, 0.0)])
def test_weights_give_the_mean_of_the_policy_exactly_where_the_log_holds_all_that_can_happen(
    window: int, of_first: float
) -> None:
    """The end of a session depends only on its last item, so that a short window is enough."""
    everything = paths()
    assert sum(path[1] for path in everything) == pytest.approx(1)
    counts = [(items, round(logged * 2**13)) for items, logged, _ in everything]
    data, log_weight = table(counts, of_first)
    truth = sum(chance * level(items, of_first) for items, _, chance in everything)
    logged = sum(chance * level(items, of_first) for items, chance, _ in everything)
    of_requests = request_weights(log_weight, data.first, window)
    rho = normalised_weights(data.user[data.first], ends(of_requests, data.first)[:, None], cap=None)
    assert user_values(data.user[data.first], data.depth_level, rho)[0, 0] == pytest.approx(truth)
    assert data.depth_level.mean() == pytest.approx(logged)
    assert abs(truth - logged) > 0.05
    if window == REQUESTS:
        second = sum(policy**2 / logged for _, logged, policy in everything)  # E_b[w^2] / E_b[w]^2
        assert kish(ends(of_requests, data.first)) == pytest.approx(1 / second)
        assert kish(ends(of_requests, data.first)) < kish(log_weight) < 1
    # At each position they sum to the policy's sessions that reach it.
    position = np.arange(len(data.row)) - np.repeat(data.first, np.diff(data.first, append=len(data.row)))
    comes = [sum(chance for items, _, chance in everything if len(items) > at) for at in range(REQUESTS)]
    np.testing.assert_allclose(np.bincount(position, np.exp(of_requests)) / len(data.first), comes)


def test_weights_of_whole_sessions_leave_less_and_less_the_longer_a_session() -> None:
    """The reason for a window: with products over 60 requests the few large ones are not in the log."""
    rng = np.random.default_rng(0)
    sessions, requests = 2000, 60
    item = rng.random(sessions * requests) < 0.5
    log_weight = np.log(np.where(item, 1.4, 0.6))  # b is even, the policy shows one of two items in seven of ten cases
    first = np.arange(0, len(item), requests)
    shares = [kish(ends(request_weights(log_weight, first, window), first)) for window in (WINDOW, requests)]
    assert shares[0] == pytest.approx(1 / 1.16**2, rel=0.05)  # E_b[w^2] is 1.16
    assert shares[1] < 0.1
    assert kish(log_weight) == pytest.approx(1 / 1.16, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 7), st.integers(0, 99), st.floats(0.1, 200))
def test_weights_equal_a_plain_product_limit(depths: list[int], window: int, seed: int, spread: float) -> None:
    log_weight = spread * np.random.default_rng(seed).normal(size=sum(depths))
    first = np.cumsum(depths) - np.array(depths)
    assert np.isfinite(request_weights(log_weight, first, window)).all()
    if spread > 3:
        return  # the plain computation overflows
    expected, coming = np.zeros(len(log_weight)), 1.0
    for position in range(max(depths)):
        there = [session for session, depth in enumerate(depths) if depth > position]
        weight = {}
        for session in there:
            last = first[session] + position
            weight[session] = np.exp(log_weight[max(first[session], last - window + 1) : last + 1].sum())
            expected[last] = weight[session]
        total = sum(weight.values())
        for session in there:
            expected[first[session] + position] *= coming * len(depths) / total
        coming *= 1 - sum(weight[session] for session in there if depths[session] == position + 1) / total
    np.testing.assert_allclose(np.exp(request_weights(log_weight, first, window)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("wrong", [0.0, 3.0])
def test_doubly_robust_is_exact_whatever_q_says_where_the_log_holds_all_that_can_happen(wrong: float) -> None:
    """Without a future (gamma 0); V is the mean of a wrong Q under the policy. A session more ends the history."""
    everything = paths()
    counts = [(items, round(logged * 2**13)) for items, logged, _ in everything]
    data, log_weight = table([*counts, ([0], 1)], of_first=0.0)
    known = steps(data, data.depth_level)
    state = np.arange(len(data.row)) - np.repeat(data.first, np.diff(data.first, append=len(data.row)))
    q = [wrong * np.sin(1.0 + state + 2 * item) for item in (0, 1)]
    value = sum(q[item] * POLICY[np.minimum(state, 1), item] for item in (0, 1))
    residual = residuals(known, np.where(data.row, q[1], q[0])[known.row], value, gamma=0.0)
    weights = np.exp(request_weights(log_weight[known.row], np.searchsorted(known.row, known.start)))
    estimate = user_means(known, value) + corrections(known, residual, weights)
    assert estimate[0] == pytest.approx(sum(chance * level(items, 0.0) for items, _, chance in everything))
    alone = normalised_weights(known.user, log_weight[known.row], None)  # of each request, wherever it is
    assert abs(user_means(known, value)[0] + corrections(known, residual, alone)[0] - estimate[0]) > 0.02


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(-500, 500))
def test_an_effective_share_lies_between_one_and_all_and_knows_no_scale(logs: list[float], shift: float) -> None:
    weight = np.array(logs)
    share = kish(weight)
    assert 1 / len(logs) - 1e-9 <= share <= 1 + 1e-9
    assert kish(weight + shift) == pytest.approx(share)
    assert kish(np.zeros(len(logs))) == 1


def test_what_was_shown_before_is_the_users_own_past() -> None:
    rng = np.random.default_rng(0)
    start, first = np.array([0, 7, 8]), np.array([0, 2, 6, 7, 8, 9, 15, 18])
    item = np.concatenate([rng.permutation(20)[:n] for n in (7, 1, 12)])
    nothing = np.zeros((20, 1), np.float32)
    data = made_histories(nothing, nothing, first, np.repeat([0, 1, 2], [3, 1, 4]), np.zeros(8), item)
    for part in (slice(0, 20), slice(5, 9), slice(8, 99)):
        out = shown_before(data, part, math.inf)
        for state, request in enumerate(range(*part.indices(20))):
            begin = start[np.searchsorted(start, request, side="right") - 1]
            assert sorted(out.item[out.state == state]) == sorted(item[begin:request])


def test_what_rests_is_what_was_shown_a_short_time_before_except_for_the_shown_item() -> None:
    """One impression per ms: with a rest of 2.5 ms, the last two items."""
    item = np.array([3, 4, 3, 3, 5, 4, 4, 5])
    nothing = np.zeros((8, 1), np.float32)
    data = made_histories(nothing, nothing, np.array([0, 6]), np.array([0, 1]), np.zeros(2), item)
    out = shown_before(data, slice(0, 8), 2.5)
    assert [sorted(out.item[out.state == state]) for state in range(8)] == [[], [3], [4], [4], [3], [3, 5], [], [4]]
    assert shown_before(data, slice(0, 8), 0.0) is None


def test_items_that_were_not_examined_rest_only_on_their_page() -> None:
    """Pages of two items, of which the second is not examined."""
    item, nothing = np.array([3, 4, 5, 6, 7, 8]), np.zeros((6, 1), np.float32)
    data = made_histories(nothing, nothing, np.array([0]), np.array([0]), np.zeros(1), item)
    data = replace(data, step=np.arange(6) // 2, examined=np.arange(6) % 2 == 0)
    out = shown_before(data, slice(0, 6), math.inf)
    assert out is not None
    assert [sorted(out.item[out.state == state]) for state in range(6)] == [[], [3], [3], [3, 5], [3, 5], [3, 5, 7]]


@pytest.fixture(scope="module")
def sampled(dataset: PreparedDataset) -> dict[str, Policy]:
    """Draws items near its action: more of the first coordinate than the log."""
    weight = np.zeros((2, dataset.state.width))
    serving = ServingSettings(rule="sample", temperature=1.0, variety=0.0)
    drawn = {"serving": serving, "deviation": 0.6, "provenance": {"method": "IL"}}
    bias = {"right": [0.25, 0.0], "left": [-0.25, 0.0]}
    return {name: linear_policy(dataset, weight, np.array(one), **drawn) for name, one in bias.items()}


def test_weights_have_a_mean_of_one_where_the_chances_are_right(
    dataset: PreparedDataset, clone: BehaviorClone, sampled: dict[str, Policy]
) -> None:
    """Items drawn evenly: b is 1 over their number, by hand."""
    rng = np.random.default_rng(3)
    n, items = 4000, len(dataset.items())
    row = rng.integers(0, items, n)
    levels = np.zeros(n // 4)
    state = rng.normal(size=(n, dataset.state.width)).astype(np.float32)
    user = np.repeat(np.arange(n // 40), 10)
    first = np.arange(0, n, 4)
    data = made_histories(state, dataset.items().embeddings[row], first, user, levels, row)
    request = EvaluationRequest(dataset, sampled, ["frequency"], clone)
    weights = weigh("right", request, Logged(data, np.full(n, -np.log(items))))
    assert weights.about == {"propensities": "logged", "mean_weight": pytest.approx(1, abs=0.05)}
    same = weigh("random items", request, Logged(data, np.full(n, -np.log(items))))
    assert (same.ess["weights"], same.ess_users) == pytest.approx((1, 1))
    assert weights.ess_users < weights.ess["weights"] < 1
    np.testing.assert_allclose(same.sessions.log_rho, 0, atol=1e-9)


def test_no_table_of_items_is_read_to_weigh(
    dataset: PreparedDataset, clone: BehaviorClone, sampled: dict[str, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = histories_of(dataset, "test", 0)
    chances = Logged(data, np.full(len(data.row), -np.log(len(dataset.items()))))
    monkeypatch.delattr(PreparedDataset, "items")
    same = weigh("random items", EvaluationRequest(dataset, sampled, ["frequency"], clone), chances)
    np.testing.assert_allclose(same.log_weight, 0, atol=1e-9)


def test_few_sessions_are_no_estimate(
    dataset: PreparedDataset, clone: BehaviorClone, sampled: dict[str, Policy]
) -> None:
    rng = np.random.default_rng(5)
    n, items = 2000, len(dataset.items())
    row = rng.integers(0, items, n)
    state = rng.normal(size=(n, dataset.state.width)).astype(np.float32)
    request = EvaluationRequest(dataset, sampled, ["frequency"], clone)
    all_weights = []
    for depth in (1, 50):
        first = np.arange(0, n, depth)
        user, levels = first // 100, np.zeros(len(first))
        data = made_histories(state, dataset.items().embeddings[row], first, user, levels, row)
        all_weights.append(weigh("right", request, Logged(data, np.full(n, -np.log(items)))))
    assert [one.enough("weights") for one in all_weights] == [True, False]
    assert all_weights[0].ess["weights"] == pytest.approx(kish(all_weights[0].log_weight))  # one impression per session
    np.testing.assert_array_equal(all_weights[0].log_weight, all_weights[1].log_weight)


def test_doubly_robust_corrects_by_a_policys_own_chances_where_they_leave_enough(
    dataset: PreparedDataset, clone: BehaviorClone, sampled: dict[str, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, held = (histories_of(dataset, split, 0) for split in ("train", "test"))
    about = EvaluateSettings(fqe=FqeSettings(updates=50, networks=2))
    request = EvaluationRequest(dataset, sampled, ["frequency"], clone, about)
    weighed = weigh("right", request, Logged(held, np.full(len(held.row), -np.log(len(dataset.items())))))
    by_kernel = fit_subject(training, held, request, "frequency", "right")
    monkeypatch.setattr(importance_weights, "ENOUGH", len(held.first) + 1)
    assert not weighed.enough("weights")
    too_few = fit_subject(training, held, request, "frequency", "right", weighed)
    assert too_few.kernel
    np.testing.assert_array_equal(too_few.dr, by_kernel.dr)
    monkeypatch.setattr(importance_weights, "ENOUGH", 1)
    own = fit_subject(training, held, request, "frequency", "right", weighed)
    assert not own.kernel
    np.testing.assert_array_equal(own.fqe, by_kernel.fqe)
    assert np.abs(own.dr - by_kernel.dr).max() > 0.01  # the same residuals by other weights
    known = task_steps(held, "frequency", dataset.metadata.mixture_weight)
    log_weights = request_weights(weighed.log_weight[known.row], np.searchsorted(known.row, known.start))
    assert own.ess == pytest.approx(kish(log_weights))


def test_an_evaluation_by_weights(
    dataset: PreparedDataset,
    clone: BehaviorClone,
    policies: dict[str, Policy],
    sampled: dict[str, Policy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importance_weights, "ENOUGH", 20)  # of 1,300 sessions, in a log of this size
    chosen = {**sampled, "always": policies["right"]}
    request = EvaluationRequest(dataset, chosen, ["frequency"], clone, EvaluateSettings(estimators=ITEM_WEIGHTS))
    evaluation = evaluate(request)
    records = {record.subject: record for record in evaluation.select("frequency", "weights")}
    assert set(records) == {"right", "left", "random items", "length only:right", "length only:left"}
    assert records["right"].gain > 0.1
    assert records["left"].gain < -0.1
    about = records["right"].settings
    assert about["propensities"] == "fitted"
    assert 0.5 < about["mean_weight"] < 1.2  # the log lacks some of its items
    for name in PAGE_WEIGHTS:  # the log has one item per page
        for record in evaluation.select("frequency", name):
            alike = records[record.subject]
            assert record.gain_interval == pytest.approx(alike.gain_interval, rel=1e-9)
            assert (record.value, record.ess) == pytest.approx((alike.value, alike.ess), rel=1e-9)
        assert len(evaluation.select("frequency", name)) == len(records)
