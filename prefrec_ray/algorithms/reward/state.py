"""Weights and optimizer state of a reward model as arrays, to share between runs and to save."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class RewardState:
    """Weights of the network by name, and Adam moments by parameter number."""

    weights: dict[str, np.ndarray]
    moments: dict[int, dict[str, np.ndarray]]

    @classmethod
    def from_network(cls, network: nn.Module, optimizer: torch.optim.Optimizer) -> RewardState:
        """Return a copy of the state of both."""
        state = optimizer.state_dict()["state"]
        return cls(
            weights={name: value.cpu().numpy().copy() for name, value in network.state_dict().items()},
            moments={i: {k: v.cpu().numpy().copy() for k, v in values.items()} for i, values in state.items()},
        )

    def put(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Restore both."""
        network.load_state_dict({name: torch.tensor(value) for name, value in self.weights.items()})
        moments = {i: {k: torch.tensor(v) for k, v in values.items()} for i, values in self.moments.items()}
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
