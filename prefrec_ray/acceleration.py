"""Faster training on processors: each part has a measured ratio, and `PREFREC_ACCELERATE=0` turns all of them off.

Ratios of processor time without the part to processor time with it (AMD EPYC with AVX-512, one thread, torch 2.13):

| part | effect | ratio |
|---|---|---|
| `keep_freed_memory` | a step with 4,096 x 245 inputs and layers of 256 | 1.9 |
| `Linear` | the same step, AMD processors only | 1.5 |
| `seeded_without_compile`, `Adam` | start of `train` to its first update: 4 s less per process | 1.7 |
| `useful_threads` | small batches on a busy machine, where a second thread waits for its core | not measured |

`python -m benchmarks parts DATASET` measures a run. Results differ by rounding at most.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

#: True if this process uses the parts.
ENABLED = os.environ.get("PREFREC_ACCELERATE", "1") != "0"
#: Size of a product below which the call of oneDNN costs more than it saves.
_LEAST = 1 << 21
#: Activations of the widest layer up to which one thread is used.
_SMALL = 1 << 17
#: Parameters of mallopt(3), with glibc's numbers.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest threshold of glibc, and a threshold that no step of a learner reaches.
_MMAP_BYTES, _TRIM_BYTES = 32 << 20, 1 << 30


def keep_freed_memory() -> None:
    """Keep freed memory in this process: take blocks of up to 32 MB from the heap, and shrink it only above 1 GB.

    By default glibc returns memory to the system repeatedly. A learner's step then causes about 10,000 page faults,
    each with 4 KB of zeros to write, instead of about 20. The change is permanent for the process. With another C
    library the function does nothing.
    """
    if sys.platform != "linux" or not ENABLED:
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


@contextmanager
def seeded_without_compile() -> Iterator[None]:
    """Let RLlib make torch deterministic as `torch.set_deterministic_debug_mode` does.

    With a seed and torch for processors, RLlib calls `torch.use_deterministic_algorithms(True)`. This sets the same
    flag, and an option of torch.compile, whose 800 modules take seconds of each process that trains.
    """
    original = torch.use_deterministic_algorithms

    def deterministic(mode: bool, *, warn_only: bool = False) -> None:
        torch.set_deterministic_debug_mode("default" if not mode else "warn" if warn_only else "error")

    torch.use_deterministic_algorithms = deterministic if ENABLED else original
    try:
        yield
    finally:
        torch.use_deterministic_algorithms = original


@contextmanager
def useful_threads(rows: int, hidden_sizes: Sequence[int]) -> Iterator[None]:
    """Compute in one thread if batches of `rows` rows are small for these networks.

    The number of threads changes the order of sums, so that runs with small batches are also the same on machines with
    different numbers of cores.
    """
    available = torch.get_num_threads()
    torch.set_num_threads(1 if rows * max(hidden_sizes) <= _SMALL else available)
    try:
        yield
    finally:
        torch.set_num_threads(available)


class Adam(torch.optim.Adam):
    """Fused Adam of torch, equal to the bit; its methods lack the wrappers that import torch.compile."""

    def __init__(self, params: torch.optim.optimizer.ParamsT, lr: float = 1e-3) -> None:
        super().__init__(params, lr=lr, fused=True)

    def descend(self, loss: torch.Tensor, rate: float | None = None) -> None:
        """Make one step on the gradient of a loss, at the learning rate `rate`; None: as before."""
        for group in self.param_groups if rate is not None else ():
            group["lr"] = rate
        self.zero_grad()
        loss.backward()
        self.step()

    if ENABLED:
        step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
        zero_grad = inspect.unwrap(Optimizer.zero_grad)
        state_dict = inspect.unwrap(Optimizer.state_dict)
        load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
        add_param_group = inspect.unwrap(Optimizer.add_param_group)


@cache
def _is_faster() -> bool:
    """Return True if MKL is slow on this processor and PyTorch has oneDNN's product."""
    if not ENABLED or torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    except OSError:  # another system than Linux
        return False


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
    """`nn.Linear` in float32 by oneDNN on AMD processors, for which PyTorch's MKL does not use AVX-512."""

    def forward(self, inputs: Tensor) -> Tensor:
        small = inputs.numel() * self.out_features < _LEAST
        float32 = inputs.dtype == self.weight.dtype == torch.float32 and inputs.device.type == "cpu"
        if small or not (float32 and _is_faster()) or torch.is_autocast_enabled("cpu"):
            return super().forward(inputs)
        if torch.is_grad_enabled() and (inputs.requires_grad or self.weight.requires_grad):
            rows = inputs.reshape(-1, self.in_features)
            return _Product.apply(rows, self.weight, self.bias).view(*inputs.shape[:-1], self.out_features)
        return _product(inputs, self.weight, self.bias)
