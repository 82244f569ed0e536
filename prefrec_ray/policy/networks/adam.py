"""Adam without torch.compile. torch's own optimizers import it when they are made, which takes a second per process."""

from __future__ import annotations

import inspect

import torch
from torch.optim import Optimizer


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
