"""Losses of the paper, as pure functions of tensors; means are over the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def preference_logit(return_0: Tensor, return_1: Tensor) -> Tensor:
    """Return the log-odds [B] that the second segment is preferred (Eq. 3), from the summed rewards [B] of both."""
    return return_1 - return_0


def preference_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Return the cross-entropy of Eq. 4. `label` [B] is the preference label: P(second preferred), 0.5 for a tie."""
    return functional.binary_cross_entropy_with_logits(logit, label)


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Return H_tau of Eq. 9: |expectile - 1(u < 0)| u^2, u = Q(s, a) - V(s), [B]."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def td_loss(q: Tensor, reward: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """Return Eq. 6: (r + gamma V(s') - Q(s, a))^2, all [B]. No transition is terminal (Algorithm 1)."""
    return (reward + gamma * next_value - q).square().mean()


def actor_loss(q_of_policy: Tensor) -> Tensor:
    """Return Eq. 10: the mean of -Q(s, pi(s)), which is [B]."""
    return -q_of_policy.mean()


def behavior_cloning_loss(action: Tensor, logged: Tensor) -> Tensor:
    """Return the mean squared difference over rows and coordinates; both [B, A]."""
    return (action - logged).square().mean()


def gaussian_log_density(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, exp(log_std)^2), summed over the last axis: [B, A] -> [B]."""
    z = (x - mean) * (-log_std).exp()
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
