"""The networks that all methods share: plain MLPs of equal size (paper, 5.4)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.networks.served import Actor, MlpActor

Network = TypeVar("Network", bound=nn.Module)


class Head(nn.Linear):
    """A last layer, in float32 whatever the precision of those before it.

    Sums of rewards, and values that are backed up a hundredfold, would lose more by rounding than it costs.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them; no activation at the end."""
    return nn.Sequential(*trunk(inputs, hidden_sizes), Head([inputs, *hidden_sizes][-1], outputs))


def trunk(inputs: int, hidden_sizes: Sequence[int]) -> list[nn.Module]:
    """The layers of an MLP but the last, each with its ReLU."""
    pairs = pairwise([inputs, *hidden_sizes])
    return [layer for width_in, width_out in pairs for layer in (nn.Linear(width_in, width_out), nn.ReLU())]


def given_states(network: nn.Module, states: Tensor) -> Callable[[Tensor], Tensor]:
    """The `mlp` `network.net` on (states [B, S], others [B, X]) as a function of the others alone.

    States pass the first layer once: most of the work where states are wide and many actions are tried in each.
    """
    net = network.get_submodule("net")
    assert isinstance(net, nn.Sequential)
    first, rest = net[0], net[1:]
    assert isinstance(first, nn.Linear)
    of_states, of_others = first.weight.split([states.shape[1], first.in_features - states.shape[1]], dim=1)
    seen = nn.functional.linear(states, of_states, first.bias)
    return lambda others: rest(torch.addmm(seen, others, of_others.T))


class Scalar(nn.Module):
    """An MLP with one output: rewards, V and Q. Several inputs are concatenated; the result is [B]."""

    def __init__(self, inputs: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden_sizes, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        return self.net(joined).squeeze(-1)


def start_at_zero(network: Scalar) -> Scalar:
    """The same network, with a last layer of zeros: its output is 0 everywhere until it is trained."""
    for parameter in network.net[-1].parameters():
        nn.init.zeros_(parameter)
    return network


class ActorNetwork(Protocol):
    """What a method acts with: [B, S] -> [B, A] within `low` and `high` [A]."""

    @property
    def low(self) -> Tensor: ...

    @property
    def high(self) -> Tensor: ...

    def __call__(self, states: Tensor) -> Tensor: ...

    def export(self) -> Actor:
        """The same as plain arrays: what a policy bundle holds."""


class Bounded(nn.Module):
    """A network whose actions lie within `low` and `high` [A], the bounds of the action space."""

    low: Tensor
    high: Tensor

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32), persistent=False)

    def squashed(self, raw: Tensor) -> Tensor:
        """Numbers [B, A] of any size, by tanh, as actions within the bounds."""
        return self.low + (torch.tanh(raw) + 1.0) * 0.5 * (self.high - self.low)


class DeterministicActor(Bounded):
    """pi(s): an MLP, tanh, scaled to the bounds of the action space. [B, S] -> [B, A]."""

    def __init__(self, inputs: int, hidden_sizes: Sequence[int], low: np.ndarray, high: np.ndarray) -> None:
        super().__init__(low, high)
        self.net = mlp(inputs, hidden_sizes, len(low))

    def forward(self, states: Tensor) -> Tensor:
        return self.squashed(self.net(states))

    def export(self) -> MlpActor:
        """The same as plain arrays: what a policy bundle holds."""
        return MlpActor(linear_layers(self.net), to_array(self.low), to_array(self.high))


class Constant(nn.Module):
    """Learned numbers [n] that do not depend on the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.value


class GaussianActor(Bounded):
    """A Gaussian whose deviation depends on the state or not; acts by its mean, squashed like `DeterministicActor`'s.

    forward: [B, S] -> [B, A], the action of the mean. `distribution` gives mean and log-deviation before tanh.
    """

    def __init__(
        self, inputs: int, hidden_sizes: Sequence[int], low: np.ndarray, high: np.ndarray, state_deviation: bool
    ) -> None:
        super().__init__(low, high)
        self.trunk = nn.Sequential(*trunk(inputs, hidden_sizes))
        self.mean = Head(hidden_sizes[-1], len(low))
        self.log_std = Head(hidden_sizes[-1], len(low)) if state_deviation else Constant(len(low))

    def distribution(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, A] and log-deviation [B, A] (or [A]), the latter clipped to [-5, 2]."""
        hidden = self.trunk(states)
        return self.mean(hidden), torch.clamp(self.log_std(hidden), -5.0, 2.0)

    def forward(self, states: Tensor) -> Tensor:
        return self.squashed(self.mean(self.trunk(states)))

    def export(self) -> MlpActor:
        """The path to the mean as plain arrays: what a policy bundle holds."""
        layers = linear_layers(self.trunk) + linear_layers(self.mean)
        return MlpActor(layers, to_array(self.low), to_array(self.high))


def linear_layers(module: nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight [out, in], bias [out]) of the linear layers in `module`, in order."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [(to_array(layer.weight), to_array(layer.bias)) for layer in layers]


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy in plain memory."""
    return tensor.detach().cpu().numpy().copy()


def polyak_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, in place; the paper's soft-update rate is 1 - tau."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


def target_copy(network: Network) -> Network:
    """A copy that gets no gradients: a target network at its start."""
    target = copy.deepcopy(network)
    target.requires_grad_(False)
    return target
