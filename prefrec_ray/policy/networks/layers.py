"""MLPs of equal size for all methods (paper, 5.4). The same classes are used in training and serving.

`Adam` is without torch.compile. torch's own optimizers import it when they are made, which takes a second per process.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

#: An MLP with ReLU: one pair (weight [out, in], bias [out]) float32 per layer, from the input on.
Layers: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]
Network = TypeVar("Network", bound=nn.Module)
#: Size of a product below which the call costs more than it saves.
_LEAST = 1 << 21


@cache
def _is_faster() -> bool:
    """Return True if MKL is slow on this processor and PyTorch has oneDNN's product."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    except OSError:  # another system than Linux
        return False


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


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return inputs [..., I] times the transpose of weight [O, I], plus bias [O]."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """Product of inputs [n, I] with gradients, by `_product`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,), (inputs, weight) = gradients, ctx.saved_tensors
        by_inputs, by_weight, by_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t(), None) if by_inputs else None,
            _product(gradient.t(), inputs.t(), None) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` in float32 by oneDNN, at twice the speed of PyTorch's MKL on AMD processors.

    MKL does not use AVX-512 on processors of other makers than Intel (docs/results/speed.md). Results differ only by
    rounding.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        small = inputs.numel() * self.out_features < _LEAST
        float32 = inputs.dtype == self.weight.dtype == torch.float32 and inputs.device.type == "cpu"
        if small or not (float32 and _is_faster()) or torch.is_autocast_enabled("cpu"):
            return super().forward(inputs)
        if torch.is_grad_enabled() and (inputs.requires_grad or self.weight.requires_grad):
            rows = inputs.reshape(-1, self.in_features)
            return _Product.apply(rows, self.weight, self.bias).view(*inputs.shape[:-1], self.out_features)
        return _product(inputs, self.weight, self.bias)


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


class Adam(torch.optim.Adam):
    """Adam of torch, equal to the bit; its methods lack the wrappers that disable torch.compile.

    The fused form takes half the time of a step of small networks.
    """

    def __init__(self, params: torch.optim.optimizer.ParamsT, lr: float = 1e-3) -> None:
        super().__init__(params, lr=lr, fused=True)

    def descend(self, loss: torch.Tensor, rate: float | None = None) -> None:
        """Make one step on the gradient of a loss, at the learning rate `rate`; None: as before."""
        for group in self.param_groups if rate is not None else ():
            group["lr"] = rate
        self.zero_grad()
        loss.backward()
        self.step()

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
