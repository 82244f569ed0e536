"""MLPs of equal size for all methods (paper, 5.4). The same classes are used in training and serving."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from time import perf_counter
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.acceleration import Linear

#: An MLP with ReLU: one pair (weight [out, in], bias [out]) float32 per layer, from the input on.
Layers: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]
Network = TypeVar("Network", bound=nn.Module)


@cache
def bf16_cost() -> float:
    """Return the time of a matrix product in bfloat16 divided by that in float32, on this processor."""
    best = []
    for kind in (torch.bfloat16, torch.float32):
        matrix, seconds = torch.ones(256, 256, dtype=kind), []
        for _ in range(3):
            begin = perf_counter()
            matrix @ matrix
            seconds.append(perf_counter() - begin)
        best.append(min(seconds))
    return best[0] / best[1]


class Head(nn.Linear):
    """Last layer, which always computes in float32.

    Rounding would harm sums of rewards, and values that are backed up a hundred times, more than float32 costs.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(inputs.device.type):  # the context costs more than a small product
            return super().forward(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())


class Mlp(nn.Sequential):
    """Linear layers with ReLU between them, the last a `Head`: [..., in] -> [..., out].

    Made by `mlp` or `Mlp.from_layers`.
    """

    @classmethod
    def from_layers(cls, layers: Layers) -> Mlp:
        """Return the network with copies of these weights and biases, without gradients and without random numbers."""
        widths = [layers[0][0].shape[1], *(len(bias) for _, bias in layers)]
        with torch.random.fork_rng(devices=[]):
            network = mlp(widths[0], widths[1:-1], widths[-1])
        for layer, (weight, bias) in zip(network.linear, layers, strict=True):
            layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return network.requires_grad_(False)

    @property
    def linear(self) -> list[nn.Linear]:
        """Return the linear layers, without the ReLUs."""
        return [layer for layer in self if isinstance(layer, nn.Linear)]

    @property
    def sizes(self) -> list[int]:
        """Return the widths from the input to the output."""
        return [self.linear[0].in_features, *(layer.out_features for layer in self.linear)]

    @property
    def layers(self) -> Layers:
        """Return copies of the weights and biases as arrays."""
        return [(to_array(layer.weight), to_array(layer.bias)) for layer in self.linear]

    def given(self, states: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the network on (states [n, S], others) as a function of the others, [n, X] or [n, k, X].

        States pass the first layer once, which is most of the work if they are wide and many actions are scored in
        each. The sum and ReLU are in place, since allocation of memory took most of the time.
        """
        first = self.linear[0]
        of_states, of_others = first.weight.split([states.shape[1], first.in_features - states.shape[1]], dim=1)
        seen = nn.functional.linear(states, of_states, first.bias)

        def outputs(others: Tensor) -> Tensor:
            hidden = nn.functional.linear(others, of_others)
            hidden += seen if others.ndim == 2 else seen[:, None]
            return self.after_first(hidden)

        return outputs

    def after_first(self, hidden: Tensor) -> Tensor:
        """Return the network's outputs for the outputs `hidden` of the first layer. Overwrites `hidden`."""
        for layer in self.linear[1:]:
            hidden = layer(torch.relu_(hidden))
        return hidden


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int) -> Mlp:
    """Return a network with random weights."""
    hidden = [
        layer
        for width_in, width_out in pairwise([inputs, *hidden_sizes])
        for layer in (Linear(width_in, width_out), nn.ReLU(inplace=True))
    ]
    return Mlp(*hidden, Head([inputs, *hidden_sizes][-1], outputs))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make initial weights depend only on `seed`, within the block, so that all learners start from equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Scalar(nn.Module):
    """An MLP with one output: rewards, V and Q. Several inputs are concatenated; the result is [B]."""

    def __init__(self, inputs: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden_sizes, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        return self.net(joined).squeeze(-1)


def start_at_zero(network: Scalar) -> Scalar:
    """Return the same network with a last layer of zeros, so that its output is 0 until it is trained."""
    for parameter in network.net[-1].parameters():
        nn.init.zeros_(parameter)
    return network


def to_array(tensor: Tensor) -> np.ndarray:
    """Return a copy in main memory."""
    return tensor.detach().cpu().numpy().copy()


def polyak_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Set target <- (1 - tau) target + tau source, in place; the paper's soft-update rate is 1 - tau."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


def target_copy(network: Network) -> Network:
    """Return a copy without gradients: the initial target network."""
    target = copy.deepcopy(network)
    target.requires_grad_(False)
    return target


def exported(network: Network) -> Network:
    """Return a copy in main memory without gradients, for a policy."""
    return target_copy(network).cpu()
