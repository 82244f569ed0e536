"""Importance weights over items against sums over all that can happen."""

from itertools import product

import numpy as np
import pytest
from hand_made import linear_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.clone import BehaviourClone
from prefrec_ray.evaluation.estimates import evaluate
from prefrec_ray.evaluation.ncis import normalised_weights, user_values
from prefrec_ray.evaluation.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.evaluation.trajectories import Trajectories, read_trajectories
from prefrec_ray.evaluation.weighted import Logged, weigh
from prefrec_ray.evaluation.weights import effective, kish, repeats, session_weights, shown_before
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy

#: Of two items in two states (0: the first request of a session), the logging policy's chances and the policy's.
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


def level(items: list[int]) -> float:
    """Something that depends on all of a session."""
    return len(items) + 0.5 * items[0] + 0.25 * items[-1]


def table(counts: list[tuple[list[int], int]]) -> tuple[Trajectories, np.ndarray]:
    """One user with these sessions, so often each; and the log weights of all requests."""
    sessions = [items for items, count in counts for _ in range(count)]
    item = np.concatenate(sessions)
    depth = np.array([len(items) for items in sessions])
    first = np.cumsum(depth) - depth
    state = np.minimum(np.arange(len(item)) - np.repeat(first, depth), 1)
    levels = np.array([level(items) for items in sessions])
    nothing = np.zeros((len(item), 1), np.float32)
    user = np.zeros(len(depth), int)
    data = Trajectories(nothing, nothing, first, user, levels, levels, item, LOGGING[state, item])
    return data, np.log(POLICY[state, item] / LOGGING[state, item])


def test_weights_give_the_mean_of_the_policy_exactly_where_the_log_holds_all_that_can_happen() -> None:
    everything = paths()
    assert sum(path[1] for path in everything) == pytest.approx(1)
    data, log_weight = table([(items, round(logged * 2**13)) for items, logged, _ in everything])
    truth = sum(chance * level(items) for items, _, chance in everything)
    logged = sum(chance * level(items) for items, chance, _ in everything)
    rho = normalised_weights(data.user, session_weights(log_weight, data)[:, None], cap=None)
    assert user_values(data.user, data.depth_level, rho)[0, 0] == pytest.approx(truth)
    assert data.depth_level.mean() == pytest.approx(logged)
    assert truth - logged > 0.05
    effective_shares = effective(log_weight, data)
    second = sum(policy**2 / logged for _, logged, policy in everything)  # E_b[w^2] / E_b[w]^2
    assert effective_shares.sessions == pytest.approx(1 / second)
    assert effective_shares.sessions < effective_shares.requests < 1
    assert effective_shares.users == 1  # there is one


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
    nothing, levels = np.zeros((20, 1), np.float32), np.zeros(8)
    data = Trajectories(nothing, nothing, first, np.repeat([0, 1, 2], [3, 1, 4]), levels, levels, item, np.ones(20))
    assert not repeats(data)
    for part in (slice(0, 20), slice(5, 9), slice(8, 99)):
        out = shown_before(data, part)
        for state, request in enumerate(range(*part.indices(20))):
            begin = start[np.searchsorted(start, request, side="right") - 1]
            assert sorted(out.item[out.state == state]) == sorted(item[begin:request])
    item[3] = item[0]
    assert repeats(data)


@pytest.fixture(scope="module")
def sampled(dataset: PreparedDataset) -> dict[str, Policy]:
    """Draws items near its action: more of the first coordinate than the log."""
    weight = np.zeros((2, dataset.state.width))
    serving = ServingSettings(rule="sample", temperature=1.0, variety=0.0)
    drawn = {"serving": serving, "deviation": 0.8, "provenance": {"method": "IL"}}
    bias = {"right": [0.25, 0.0], "left": [-0.25, 0.0]}
    return {name: linear_policy(dataset, weight, np.array(one), **drawn) for name, one in bias.items()}


def test_weights_have_a_mean_of_one_where_the_chances_are_right(
    dataset: PreparedDataset, clone: BehaviourClone, sampled: dict[str, Policy]
) -> None:
    """Items drawn evenly: b is 1 over their number, by hand."""
    rng = np.random.default_rng(3)
    n, items = 4000, len(dataset.items())
    row = rng.integers(0, items, n)
    levels = np.zeros(n // 4)
    state = rng.normal(size=(n, dataset.state.width)).astype(np.float32)
    user = np.repeat(np.arange(n // 40), 10)
    first = np.arange(0, n, 4)
    data = Trajectories(state, dataset.items().embeddings[row], first, user, levels, levels, row, np.ones(n))
    request = EvaluationRequest(dataset, sampled, ["frequency"], clone)
    weights = weigh("right", request, Logged(data, np.full(n, -np.log(items)), True, {"propensities": "logged"}))
    assert weights.about == {"propensities": "logged", "mean_weight": pytest.approx(1, abs=0.05)}
    same = weigh("random items", request, Logged(data, np.full(n, -np.log(items)), True, {}))
    assert (same.effective.requests, same.effective.users) == pytest.approx((1, 1))
    np.testing.assert_allclose(same.sessions.log_rho, 0, atol=1e-9)


def test_trajectories_know_items_and_chances(dataset: PreparedDataset, ray_session: None) -> None:
    data = read_trajectories._function(dataset.uri, "test", 0)
    np.testing.assert_array_equal(dataset.items().embeddings[data.row], data.action)
    assert np.isnan(data.propensity).all()


def test_few_sessions_are_no_estimate(
    dataset: PreparedDataset, clone: BehaviourClone, sampled: dict[str, Policy]
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
        data = Trajectories(state, dataset.items().embeddings[row], first, user, levels, levels, row, np.ones(n))
        all_weights.append(weigh("right", request, Logged(data, np.full(n, -np.log(items)), True, {})))
    assert [one.enough for one in all_weights] == [True, False]
    assert all_weights[0].effective.sessions == all_weights[0].effective.requests == all_weights[1].effective.requests


def test_an_evaluation_by_weights(
    dataset: PreparedDataset, clone: BehaviourClone, policies: dict[str, Policy], sampled: dict[str, Policy]
) -> None:
    chosen = {**sampled, "always": policies["right"]}
    request = EvaluationRequest(dataset, chosen, ["frequency"], clone, EvaluateSettings(estimators=("weights",)))
    records = {record.subject: record for record in evaluate(request).of("frequency", "weights")}
    assert set(records) == {"right", "left", "random items", "length only:right", "length only:left"}
    assert records["right"].gain > 0.1
    assert records["left"].gain < -0.1
    about = records["right"].settings
    assert about["propensities"] == "fitted"
    assert about["calibration"] == pytest.approx(1, abs=0.15)
    assert 0.5 < about["mean_weight"] < 1.2  # a part of what it shows the log never did
