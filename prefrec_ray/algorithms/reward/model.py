"""Reward model r: its network, input, scale, and state as arrays (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.algorithms.feed.shards import ACTIONS, LABELS, NEXT_OBS, OBS, REWARDS
from prefrec_ray.policy.networks.layers import Scalar, start_at_zero


class Members(nn.Module):
    """Reward networks of the same shape, trained independently on the same mini-batches. The reward is their mean.

    The remains of their initial weights differ, and average out if preferences give little information
    (docs/recipe.md).
    """

    def __init__(self, members: Sequence[Scalar]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack([member(*inputs) for member in self.members]).mean(0)


def reward_network(width: int, hidden_sizes: Sequence[int], members: int) -> Scalar | Members:
    """Return the network of a reward with `width` inputs."""
    # The paper does not give the initial weights. The weights of an untrained reward would remain as noise, larger than
    # the signal, in directions of the state that preferences do not determine (docs/recipe.md).
    networks = [start_at_zero(Scalar(width, hidden_sizes)) for _ in range(members)]
    return networks[0] if members == 1 else Members(networks)


class RewardModel(nn.Module):
    """r(s, a) as in the paper, or r of `columns` of the next state; standardised by `mean` and `std`.

    It is the mean of `members` networks. `from_batch`: the batch contains rewards (reward column or look-ahead labels),
    which are only standardised.
    """

    columns: Tensor | None
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        columns: Sequence[int] | None,
        members: int = 1,
        from_batch: bool = False,
    ) -> None:
        super().__init__()
        width = state_dim + action_dim if columns is None else len(columns)
        self.network = reward_network(width, hidden_sizes, members)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.from_batch = from_batch

    def forward(self, inputs: Tensor) -> Tensor:
        """Return rewards [...] of inputs [..., D], as in a `PreferenceBuffer`."""
        return self.network(inputs)

    @property
    def members(self) -> list[nn.Module]:
        """Return the networks that learn, each independently."""
        return list(self.network.members) if isinstance(self.network, Members) else [self.network]

    def label(self, batch: dict[str, Tensor]) -> Tensor:
        """Return standardised rewards [B], the reward labels of a batch of transitions: its `LABELS` if present."""
        if LABELS in batch:
            return batch[LABELS]
        if self.from_batch:
            raw = batch[REWARDS]
        elif self.columns is None:
            raw = self.network(batch[OBS], batch[ACTIONS])
        else:
            raw = self.network(batch[NEXT_OBS].index_select(1, self.columns))
        return (raw - self.mean) / self.std

    def unscale(self) -> None:
        """Reset the scale, so that `label` returns raw rewards."""
        self.mean.zero_()
        self.std.fill_(1.0)

    def scale_to(self, moments: Tensor) -> None:
        """Set the scale from `moments` [3] of raw rewards: number, sum and sum of squares."""
        count, total, squares = moments
        mean = total / count
        self.mean.copy_(mean)
        # A constant reward becomes 0 instead of being divided by 0.
        self.std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())


@dataclass(frozen=True)
class RewardState:
    """Weights of a reward network by name, and Adam moments by parameter number, to share between runs and to save."""

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


def moments(rewards: Tensor) -> Tensor:
    """Return number, sum and sum of squares of rewards [B], float64 [3]; `scale_to` needs their sum over learners."""
    rewards = rewards.double()
    return torch.stack([torch.ones_like(rewards), rewards, rewards.square()]).sum(1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make initial weights depend only on `seed`, within the block, so that all learners start from equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
