"""The networks that all methods share: plain MLPs of equal size (paper, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them; no activation at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise([inputs, *hidden_sizes]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear([inputs, *hidden_sizes][-1], outputs))


class Scalar(nn.Module):
    """An MLP with one output: rewards, V and Q. Several inputs are concatenated; the result is [B]."""

    def __init__(self, inputs: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden_sizes, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        return self.net(joined).squeeze(-1)


class DeterministicActor(nn.Module):
    """pi(s): an MLP, tanh, scaled to the bounds of the action space. [B, S] -> [B, A]."""

    low: Tensor
    high: Tensor

    def __init__(self, inputs: int, hidden_sizes: Sequence[int], low: np.ndarray, high: np.ndarray) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden_sizes, len(low))
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        unit = torch.tanh(self.net(states))
        return self.low + (unit + 1.0) * 0.5 * (self.high - self.low)


def polyak_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, in place; the paper's soft-update rate is 1 - tau."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


def freeze(module: nn.Module) -> nn.Module:
    """Turns gradients off for good: for target networks."""
    return module.requires_grad_(False)
