"""A reward of several members: the mean of independently trained networks."""

from __future__ import annotations

import copy

import numpy as np
import torch

from prefrec_ray.algorithms.base.diagnostics import segment_returns
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.reward.labels import RewardFunction
from prefrec_ray.algorithms.reward.model import RewardModel, preference_gradient
from prefrec_ray.policy.networks.layers import seeded

CPU = torch.device("cpu")


def buffer(pairs: int = 150, rows: int = 80, length: int = 4) -> PreferenceBuffer:
    rng = np.random.default_rng(0)
    first = rng.integers(0, rows - length, (pairs, 2))
    label = rng.choice(np.float32([0, 0.5, 1]), pairs)
    return PreferenceBuffer(
        rng.normal(size=(rows, 5)).astype(np.float32), first, label, np.ones(pairs, bool), np.full(pairs, "one"), length
    )


def test_the_return_of_a_segment_is_the_sum_of_the_means_of_its_pages() -> None:
    """Pages have 1, 2 and 3 items in turn; the loss and the accuracy are computed again from plain sums of means."""
    sizes = np.tile([1, 2, 3], 10)
    page = np.repeat(np.arange(30), sizes)
    first_page = np.random.default_rng(1).integers(0, 26, (40, 2))
    begin = np.append(0, np.cumsum(sizes))
    weight = (1 / sizes[page]).astype(np.float32)
    count = begin[first_page + 4] - begin[first_page]
    inputs = np.random.default_rng(2).normal(size=(60, 5)).astype(np.float32)
    label = np.random.default_rng(3).choice(np.float32([0, 1]), 40)
    both = np.ones(40, bool)
    paged = PreferenceBuffer(
        inputs, begin[first_page], label, both, np.full(40, "one"), int(count.max()), count, weight
    )
    reward = model(1)
    with torch.no_grad():
        means = np.bincount(page, reward(torch.from_numpy(inputs)).numpy()) / sizes
    returns = np.array([[means[first : first + 4].sum() for first in pair] for pair in first_page])
    with torch.no_grad():
        np.testing.assert_allclose(segment_returns(reward, paged), returns, rtol=1e-4)
    logit = torch.from_numpy(returns[:, 1] - returns[:, 0])
    _, sums = preference_gradient(reward, paged, np.arange(40), 40, CPU)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(label).double())
    torch.testing.assert_close(sums[0].double(), loss, rtol=1e-4, atol=1e-5)
    assert sums[1] == ((logit > 0).numpy() == (label > 0.5)).sum()


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
    rewards = RewardFunction(weights, (6, 6), (0, 1, 2, 3, 4), 2)(state, action, np.arange(8), np.arange(1, 9))
    np.testing.assert_allclose(rewards, together(torch.from_numpy(state[1:])).detach().numpy(), rtol=1e-5)
