"""The reward model r: its network, what it sees, and its scale (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from prefrec_ray.networks.layers import Scalar, start_at_zero


class RewardModel(nn.Module):
    """r(s, a) as in the paper, or r of `columns` of the next state; standardised by `mean` and `std`.

    `given`: rewards come with the batches (the data set's own, or labels that look ahead) and are only standardised.
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
        given: bool = False,
    ) -> None:
        super().__init__()
        # The paper does not say how networks start. What an untrained reward happens to say of a state would stay
        # in it where preferences are silent, as noise that is larger than what they teach (docs/recipe.md).
        width = state_dim + action_dim if columns is None else len(columns)
        self.network = start_at_zero(Scalar(width, hidden_sizes))
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.given = given

    def forward(self, inputs: Tensor) -> Tensor:
        """Rewards [...] of what the model sees, [..., D], as a `PreferenceBuffer` holds it."""
        return self.network(inputs)

    def label(self, batch: dict[str, Tensor]) -> Tensor:
        """Standardised rewards [B] of a batch of transitions."""
        if self.given:
            raw = batch[Columns.REWARDS]
        elif self.columns is None:
            raw = self.network(batch[Columns.OBS], batch[Columns.ACTIONS])
        else:
            raw = self.network(batch[Columns.NEXT_OBS].index_select(1, self.columns))
        return (raw - self.mean) / self.std

    def unscale(self) -> None:
        """Mean 0 and deviation 1: `label` gives raw rewards."""
        self.mean.zero_()
        self.std.fill_(1.0)

    def scale_to(self, moments: Tensor) -> None:
        """Standardises by the `moments` [3] of raw rewards: their number, their sum and the sum of their squares."""
        count, total, squares = moments
        mean = total / count
        self.mean.copy_(mean)
        # A reward that is the same everywhere stays 0 instead of being blown up.
        self.std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())


def moments(rewards: Tensor) -> Tensor:
    """Number, sum and sum of squares of rewards [B], float64 [3]: what `scale_to` takes, summed over learners."""
    rewards = rewards.double()
    return torch.stack([torch.ones_like(rewards), rewards, rewards.square()]).sum(1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights made inside depend on the seed alone: every learner starts from the same ones, the reward's first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
