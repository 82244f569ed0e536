"""Float32 linear layers by oneDNN, at twice the speed of PyTorch's MKL on AMD processors.

MKL does not use AVX-512 on processors of other makers than Intel (docs/results/speed.md).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return inputs [..., I] times the transpose of weight [O, I], plus bias [O]."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """Product of inputs [n, I] with gradients, by `_product`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the product [n, O]."""
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients with respect to inputs, weight and bias, if needed."""
        (gradient,), (inputs, weight) = gradients, ctx.saved_tensors
        by_inputs, by_weight, by_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t(), None) if by_inputs else None,
            _product(gradient.t(), inputs.t(), None) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` by oneDNN if that is faster. Results differ only by rounding."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's outputs: [..., I] -> [..., O]."""
        small = inputs.numel() * self.out_features < _LEAST
        float32 = inputs.dtype == self.weight.dtype == torch.float32 and inputs.device.type == "cpu"
        if small or not (float32 and _is_faster()) or torch.is_autocast_enabled("cpu"):
            return super().forward(inputs)
        if torch.is_grad_enabled() and (inputs.requires_grad or self.weight.requires_grad):
            rows = inputs.reshape(-1, self.in_features)
            return _Product.apply(rows, self.weight, self.bias).view(*inputs.shape[:-1], self.out_features)
        return _product(inputs, self.weight, self.bias)
