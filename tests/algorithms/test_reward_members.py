"""A reward of several members: the mean of independently trained networks."""

from __future__ import annotations

import copy

import numpy as np
import torch

from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.reward.labels import RewardFunction
from prefrec_ray.algorithms.reward.model import RewardModel, seeded
from prefrec_ray.algorithms.reward.update import preference_gradient

CPU = torch.device("cpu")


def buffer(pairs: int = 150, rows: int = 80, length: int = 4) -> PreferenceBuffer:
    rng = np.random.default_rng(0)
    first = rng.integers(0, rows - length, (pairs, 2))
    label = rng.choice(np.float32([0, 0.5, 1]), pairs)
    return PreferenceBuffer(
        rng.normal(size=(rows, 5)).astype(np.float32), first, label, np.ones(pairs, bool), np.full(pairs, "one"), length
    )


def model(members: int) -> RewardModel:
    with seeded(3):
        reward = RewardModel(5, 2, (6, 6), [0, 1, 2, 3, 4], members)
    with torch.no_grad():
        for parameter in reward.parameters():  # last layers start at zero, where hidden ones have no gradient
            parameter += 0.1
    return reward


def test_each_member_learns_as_if_alone() -> None:
    together, pairs = model(3), np.arange(150)
    gradient, sums = preference_gradient(together, buffer(), pairs, 200, CPU)
    parts, losses = [], []
    for member in together.members:
        alone = model(1)
        alone.network = copy.deepcopy(member)
        own, own_sums = preference_gradient(alone, buffer(), pairs, 200, CPU)
        parts += own
        losses.append(own_sums[0])
    assert len(gradient) == len(parts) == 3 * 6
    for parameter_gradient, expected in zip(gradient, parts, strict=True):
        torch.testing.assert_close(parameter_gradient, expected)
    torch.testing.assert_close(sums[0], torch.stack(losses).mean())


def test_members_start_differently_and_the_reward_is_their_mean() -> None:
    together, inputs = model(3), torch.randn(7, 5)
    each = torch.stack([member(inputs) for member in together.members])
    assert len({tuple(row.tolist()) for row in each}) == 3
    torch.testing.assert_close(together(inputs), each.mean(0))
    with seeded(3):
        assert torch.equal(RewardModel(5, 2, (6, 6), None, 3)(torch.randn(4, 7)), torch.zeros(4))


def test_labels_of_tasks_are_those_of_the_model() -> None:
    together = model(2)
    weights = {name: value.numpy() for name, value in together.network.state_dict().items()}
    state, action = np.random.default_rng(1).normal(size=(2, 9, 5)).astype(np.float32)
    rewards = RewardFunction(weights, (6, 6), (0, 1, 2, 3, 4), 2)(state, action, np.arange(8))
    np.testing.assert_allclose(rewards, together(torch.from_numpy(state[1:])).detach().numpy(), rtol=1e-5)
