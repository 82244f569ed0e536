"""Fitted-Q and the doubly robust correction against worlds whose values are known in closed form."""

import numpy as np
import pytest
from hand_made import made_histories

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators.fitted_q import corrections, fit_subject, residuals, user_means
from prefrec_ray.evaluation.estimators.fqe import Steps, fit_q, steps
from prefrec_ray.evaluation.estimators.ncis import normalised_weights
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.session_weights import request_weights
from prefrec_ray.evaluation.results.names import LOGGING_POLICY
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings
from prefrec_ray.users.histories import Histories

RIGHT, LEFT = np.float32([1.0]), np.float32([-1.0])


def histories(depths: list[list[int]], levels: list[list[float]], state: np.ndarray, action: np.ndarray) -> Histories:
    """Users with sessions of the given depths and levels."""
    depth = np.array([d for user in depths for d in user])
    level = np.array([one for user in levels for one in user], dtype=np.float64)
    user = np.repeat(np.arange(len(depths)), [len(d) for d in depths])
    return made_histories(state.astype(np.float32), action.astype(np.float32), np.cumsum(depth) - depth, user, level)


def walk(users: int, sessions: int, seed: int) -> Histories:
    """Two states, -1 and 1, kept through a session of 1 to 4 requests.

    A session's level is 2 + state + noise; the next session's state is this one's last action. Actions are -1 or 1,
    evenly. The second number of a state is the position in the session.
    """
    rng = np.random.default_rng(seed)
    depths, levels, states, actions = [], [], [], []
    for _ in range(users):
        state = rng.choice([-1.0, 1.0])
        depths.append(rng.integers(1, 5, sessions).tolist())
        levels.append([])
        for depth in depths[-1]:
            taken = rng.choice([-1.0, 1.0], depth)
            states += [[state, step] for step in range(depth)]
            actions += [[one] for one in taken]
            levels[-1].append(2 + state + rng.normal() / 4)
            state = taken[-1]
    return histories(depths, levels, np.array(states), np.array(actions))


@pytest.fixture(scope="module")
def world() -> tuple[Histories, Steps]:
    data = walk(users=200, sessions=20, seed=0)
    return data, steps(data, data.depth_level)


def test_steps_are_those_of_sessions_with_a_level_and_a_session_after_them() -> None:
    data = histories(
        [[2, 1, 3], [4], [1, 2, 1]], [[1, np.nan, 3], [5], [2, 4, np.nan]], np.zeros((14, 1)), np.zeros((14, 1))
    )
    kept_steps = steps(data, data.depth_level)
    assert kept_steps.row.tolist() == [0, 1, 10, 11, 12]
    assert kept_steps.ends.tolist() == [False, True, True, False, True]
    assert kept_steps.reward.tolist() == [0, 1, 2, 0, 4]
    assert kept_steps.user.tolist() == [0, 0, 1, 1, 1]
    assert (kept_steps.start.tolist(), kept_steps.start_user.tolist()) == ([0, 10, 11], [0, 1, 1])
    assert (kept_steps.users, kept_steps.users_left_out) == (2, 1)
    with pytest.raises(UserError, match="no session has a level and a following session"):
        steps(data, np.full(7, np.nan))


@pytest.mark.parametrize(("action", "gamma"), [(RIGHT, 0.9), (LEFT, 0.9), (RIGHT, 0.5), (RIGHT, 0.0)])
def test_fitted_q_finds_the_value_of_going_right_or_left(
    world: tuple[Histories, Steps], action: np.ndarray, gamma: float
) -> None:
    data, known = world
    acts = np.broadcast_to(action, data.action.shape)
    net = fit_q(data, known, acts, FqeSettings(gamma_session=gamma, updates=700), seed=0)
    for state in (-1.0, 1.0):
        # The level of this visit is 2 + state; from the next on the state is the action's.
        expected = (1 - gamma) * (2 + state) + gamma * (2 + action[0])
        here = known.start[data.state[known.start, 0] == state]
        value = net.mean_level(data.state[here], acts[here]).mean()
        assert value == pytest.approx(expected, abs=0.06)


def test_fitted_q_is_a_function_of_its_arguments(world: tuple[Histories, Steps]) -> None:
    data, known = world
    values = [
        fit_q(data, known, data.action, FqeSettings(updates=20), seed).mean_level(data.state[:50], data.action[:50])
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_redrawn_steps_are_those_of_whole_users(world: tuple[Histories, Steps]) -> None:
    _, known = world
    drawn = known.redrawn(np.random.default_rng(3))
    times = np.bincount(drawn, minlength=len(known.row))
    by_user = [set(times[known.user == user]) for user in range(known.users)]
    assert all(len(once) == 1 for once in by_user)
    assert sum(min(once) for once in by_user) == known.users
    assert 0.55 < np.mean([min(once) > 0 for once in by_user]) < 0.72  # 1 - 1/e of them


def test_where_all_levels_are_equal_so_is_every_value() -> None:
    data = walk(users=20, sessions=5, seed=1)
    known = steps(data, np.full(100, 3.0))
    net = fit_q(data, known, data.action, FqeSettings(updates=20), seed=0)
    assert net.mean_level(data.state, data.action) == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_with_the_true_q_residuals_are_noise_whatever_the_weights(world: tuple[Histories, Steps], gamma: float) -> None:
    data, known = world
    state, action = data.state[:, 0].astype(np.float64), data.action[:, 0].astype(np.float64)
    last = np.zeros(len(state), dtype=bool)
    last[known.row[known.ends]] = True
    goal = 1.0  # of the policy that always goes right
    value = (1 - gamma) * (2 + state) + gamma * (2 + goal)
    # Only a visit's last action moves the user on, and which is the last one the (true) Q knows.
    after = np.where(last, action, goal)
    then = gamma * ((1 - gamma) * (2 + after) + gamma * (2 + goal))
    taken = (1 - gamma) * (2 + state) + then
    residual = residuals(known, taken[known.row], value, gamma)
    noise = known.reward[known.ends] - (2 + state[known.row[known.ends]])
    assert residual[known.ends] == pytest.approx(noise, abs=1e-9)
    assert residual[~known.ends] == pytest.approx(0, abs=1e-9)
    log_weight = np.random.default_rng(3).normal(size=len(known.row))
    along = np.exp(request_weights(log_weight, np.searchsorted(known.row, known.start)))
    for weight in (normalised_weights(known.user, log_weight, None), along):
        correction = corrections(known, residual, weight)
        assert abs(correction.mean()) < 4 * correction.std() / np.sqrt(known.users)


@pytest.mark.parametrize("wrong", [0.0, 2.0, -5.0])
def test_with_exact_weights_a_wrong_q_does_no_harm_in_one_step(wrong: float) -> None:
    """One request per visit, no future, level 2 + 2 s a + noise; the log has action 1 of two in one of four cases."""
    rng = np.random.default_rng(4)
    users, visits = 400, 60
    state = rng.normal(1, 1, (users * visits, 1))
    action = np.where(rng.random((users * visits, 1)) < 0.25, 1.0, -1.0)
    level = (2 + 2 * state * action + 0.3 * rng.normal(size=state.shape)).reshape(users, visits)
    data = histories([[1] * visits] * users, level.tolist(), state, action)
    known = steps(data, data.depth_level)
    # The policy takes 1 always: weights 4 and 0; its value is 2 + 2 E[s] = 4. Q is off by a slope and an offset.
    value = wrong + (2 + wrong) * state[:, 0]
    taken = wrong + (2 + wrong) * state[:, 0] * action[:, 0]
    residual = residuals(known, taken[known.row], value, gamma=0.0)
    with np.errstate(divide="ignore"):
        log_weight = np.log(np.where(action[known.row, 0] > 0, 4.0, 0.0))
    correction = corrections(known, residual, normalised_weights(known.user, log_weight, None))
    estimates = user_means(known, value) + correction
    assert estimates.mean() == pytest.approx(4.0, abs=4 * estimates.std() / np.sqrt(users))
    assert estimates.std() / np.sqrt(users) < 0.1


def test_corrections_equal_a_plain_sum() -> None:
    data = walk(users=5, sessions=6, seed=2)
    known = steps(data, data.depth_level)
    rng = np.random.default_rng(0)
    residual, log_weight = rng.normal(size=len(known.row)), 3 * rng.normal(size=len(known.row))
    weight = normalised_weights(known.user, log_weight, cap=2.0)
    correction = corrections(known, residual, weight)
    for user in range(5):
        rows = np.flatnonzero(known.user == user)
        rho = np.minimum(np.exp(log_weight[rows]), 2.0)
        rho /= rho.mean()
        assert weight[rows] == pytest.approx(rho)
        assert correction[user] == pytest.approx((rho * residual[rows]).sum() / 5)  # five visits have one after them


def test_unweighted_the_correction_gives_the_logged_mean_whatever_q_says() -> None:
    """With weights of 1 and the logging policy as pi, everything telescopes except for the ends of a history."""
    data = walk(users=30, sessions=8, seed=3)
    known = steps(data, data.depth_level)
    q = np.random.default_rng(0).normal(size=len(data.state))
    gamma = 0.8
    residual = residuals(known, q[known.row], q, gamma)
    weight = np.exp(request_weights(np.zeros(len(known.row)), np.searchsorted(known.row, known.start)))
    np.testing.assert_allclose(weight, 1)
    estimates = user_means(known, q) + corrections(known, residual, weight)
    for user in range(30):
        starts = data.first[data.user[data.first] == user]
        levels = data.depth_level[data.user[data.first] == user][:-1]
        edges = gamma * (q[starts[-1]] - q[starts[0]]) / (1 - gamma) / len(levels)
        assert estimates[user] == pytest.approx(levels.mean() + edges)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_doubly_robust_of_logged_pages_is_the_logged_level(
    dataset: PreparedDataset, clone: BehaviorClone, size: int
) -> None:
    """Training users have the level 3 and scored users the level 4, which only the correction shows."""
    users, sessions = 12, 3

    def at_level(level: float) -> Histories:
        """Sessions of two pages of `size` items."""
        items = 2 * size * users * sessions
        first, page = np.arange(0, items, 2 * size), np.arange(items) // size
        state = np.random.default_rng(0).normal(size=(items, dataset.state.width)).astype(np.float32)
        action = np.random.default_rng(1).uniform(-1, 1, (items, 2)).astype(np.float32)
        user = np.repeat(np.arange(users), sessions)
        return made_histories(state, action, first, user, np.full(users * sessions, level), step=page)

    settings = EvaluateSettings(estimators=("dr",), fqe=FqeSettings(networks=1, updates=20, gamma_session=0.0))
    request = EvaluationRequest(dataset, {}, ["depth"], clone, settings)
    fitted = fit_subject(at_level(3.0), at_level(4.0), request, "depth", LOGGING_POLICY)
    assert fitted.fqe == pytest.approx(np.full((1, users), 3.0), abs=1e-5)
    assert fitted.dr == pytest.approx(np.full((1, users), 4.0), abs=1e-5)
