"""What more of the same costs is found in logs whose law is known, and taken off Q where a policy serves."""

import numpy as np
import pytest

from prefrec_ray.algorithms.tiring import past_mean, standard_scores, tiring_cost
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.networks.tired import shown_columns
from tests.test_policy import STATE, make_critic, make_policy, make_states

USERS, REQUESTS = 400, 60


def log_of(cost: float, gain: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels of a law written down: gain z - cost gain like + a mood of the user + noise."""
    rng = np.random.default_rng(seed)
    z, like, mood = rng.normal(size=(3, USERS * REQUESTS))
    like += 0.5 * z
    labels = gain * (z - cost * like) + 2.0 * mood + rng.normal(size=USERS)[np.arange(len(z)) // REQUESTS]
    return labels, z, like, mood[:, None], np.arange(0, len(z), REQUESTS)


@pytest.mark.parametrize("cost", [0.0, 0.4, 2.0])
def test_the_cost_of_a_known_law_is_found(cost: float) -> None:
    found, error = tiring_cost(*log_of(cost))
    assert abs(found - cost) < 3 * error
    assert error < 0.05


def test_its_error_is_that_of_logs_drawn_again() -> None:
    found, errors = zip(*(tiring_cost(*log_of(0.5, seed=seed)) for seed in range(60)), strict=True)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.3)


def test_q_that_raises_nothing_says_nothing() -> None:
    assert tiring_cost(*log_of(0.5, gain=-1.0)) == (0.0, float("inf"))


def test_past_means_decay_and_start_anew() -> None:
    means = past_mean(np.array([1.0, 2.0, 3.0, 5.0, 7.0]), np.array([0, 3]))
    decay = 0.5 ** (1 / 32)
    expected = [0, (1 - decay) * 1, decay * (1 - decay) * 1 + (1 - decay) * 2, 0, (1 - decay) * 5]
    np.testing.assert_allclose(means, expected)


def test_scores_are_counted_in_deviations_over_items() -> None:
    critic, states = make_critic(0), make_states(5)
    rng = np.random.default_rng(1)
    actions, sample = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    z, scale = standard_scores(critic, states, actions, sample)
    over = critic.scores(states, np.tile(sample, (5, 1, 1)))
    own = critic.scores(states, actions[:, None])[:, 0]
    np.testing.assert_allclose(z, (own - over.mean(axis=1)) / over.std(axis=1), rtol=1e-4)
    assert scale == pytest.approx(over.std(axis=1).mean(), rel=1e-5)


def test_more_of_the_same_scores_less_by_its_likeness() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings(), tiring=0.7)
    names = [STATE.names[column] for column in shown_columns(STATE)]
    assert names == ["items/0@32", "items/1@32", "items/2@32"]
    states = make_states(4)
    candidates = np.random.default_rng(2).normal(size=(4, 6, 3)).astype(np.float32)
    mean, std = (np.asarray(part)[shown_columns(STATE)] for part in (policy.normaliser.mean, policy.normaliser.std))
    for row, state in enumerate(states):
        shown = state[shown_columns(STATE)] * std + mean
        expected = (
            policy.critic.scores(states[row : row + 1], candidates[row : row + 1])[0] - 0.7 * candidates[row] @ shown
        )
        np.testing.assert_allclose(policy.scorer.scores(states, candidates)[row], expected, atol=1e-4)


def test_it_is_a_choice_that_travels(tmp_path) -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings(), tiring=0.7)
    policy.save(str(tmp_path / "policy"))
    again = type(policy).load(str(tmp_path / "policy"))
    assert again.tiring == 0.7
    np.testing.assert_array_equal(
        again.recommend(make_states(9), 3, seed=1), policy.recommend(make_states(9), 3, seed=1)
    )
    without = make_policy(critic=make_critic(0), serving=ServingSettings(tiring=False), tiring=0.7)
    assert without.scorer is without.critic
