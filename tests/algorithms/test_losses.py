"""Losses against closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.algorithms.losses import (
    actor_loss,
    behavior_cloning_loss,
    expectile_loss,
    gaussian_log_density,
    preference_logit,
    preference_loss,
    td_loss,
)

numbers = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20)


@given(numbers, st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=50)
def test_expectile_loss_is_the_definition(values: list[float], expectile: float) -> None:
    expected = np.mean([abs(expectile - (u < 0)) * u * u for u in values])
    assert expectile_loss(torch.tensor(values), expectile).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_minimiser_of_the_expectile_loss_is_the_expectile() -> None:
    # For a point at 0 and one at 1 the expectile is tau itself: (1 - tau) m = tau (1 - m).
    q = torch.tensor([0.0, 1.0])
    for expectile in (0.5, 0.7, 0.9):
        v = torch.tensor(expectile, requires_grad=True)
        expectile_loss(q - v, expectile).backward()
        assert v.grad is not None
        assert v.grad.item() == pytest.approx(0.0, abs=1e-7)


def test_half_an_expectile_is_half_the_squared_error() -> None:
    u = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert expectile_loss(u, 0.5).item() == pytest.approx(0.5 * u.square().mean().item(), rel=1e-6)


def test_preference_loss_is_bradley_terry() -> None:
    first, second = torch.tensor([1.0, -2.0, 0.3]), torch.tensor([0.5, 1.0, 0.3])
    label = torch.tensor([1.0, 0.0, 0.5])
    p = [math.exp(b) / (math.exp(a) + math.exp(b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    cross_entropy = [-y * math.log(q) - (1 - y) * math.log(1 - q) for y, q in zip(label.tolist(), p, strict=True)]
    assert preference_loss(preference_logit(first, second), label).item() == pytest.approx(
        np.mean(cross_entropy), rel=1e-6
    )
    assert preference_loss(torch.zeros(4), torch.full((4,), 0.5)).item() == pytest.approx(math.log(2))


def test_td_and_actor_losses() -> None:
    q, reward, value = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.0])
    # (0.5 + 0.9 * 2 - 1)^2 = 1.69 and (-1 - 2)^2 = 9
    assert td_loss(q, reward, value, 0.9).item() == pytest.approx((1.69 + 9) / 2)
    assert actor_loss(q).item() == pytest.approx(-1.5)


def test_behavior_cloning_loss_is_the_mean_squared_difference() -> None:
    action, logged = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.5, 2.0], [1.0, 7.0]])
    assert behavior_cloning_loss(action, logged).item() == pytest.approx((0.25 + 0 + 4 + 9) / 4)


def test_gaussian_log_density_is_torchs_summed_over_coordinates() -> None:
    x, mean, log_std = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0)).unbind()
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(2)
    assert torch.allclose(gaussian_log_density(x, mean, log_std), expected, atol=1e-5)
