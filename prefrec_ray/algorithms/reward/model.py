"""Reward model r (section 4 of the paper): network, input, scale and state; updates (Eq. 4) and pre-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.acceleration import Adam, keep_freed_memory
from prefrec_ray.algorithms.feed.load import LoadedData
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer, PreferencePlan, pretrain_batches
from prefrec_ray.algorithms.feed.shards import ACTIONS, LABELS, NEXT_OBS, OBS, REWARDS
from prefrec_ray.algorithms.losses import preference_logit, preference_loss
from prefrec_ray.algorithms.requests import RewardRequest
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.policy.networks.layers import Scalar, seeded, start_at_zero

#: Pairs per forward pass on the processor: 16 are 10 % slower; 256 are not faster and take four times the memory.
PAIRS_PER_CHUNK = 64
#: Pairs per forward pass on a GPU, on which a small pass takes as long as its launch (not measured).
PAIRS_PER_LAUNCH = 512
ACCURACY = "reward/accuracy_train"


class Members(nn.Module):
    """Reward networks of the same shape, trained independently on the same mini-batches. The reward is their mean.

    Where preferences give little information, each network keeps a part of its initial weights. These parts differ, so
    that the mean has less of them (docs/recipe.md).
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


def pretrain(request: RewardRequest, data: LoadedData, device: str = "cpu") -> RewardState:
    """Return the pre-trained reward, equal bit for bit to a run with one learner. `data` contains the preferences."""
    keep_freed_memory()
    metadata = PreparedDataset.open(request.dataset).metadata
    with seeded(request.seed):
        reward = RewardModel(
            metadata.state_dim, metadata.action_dim, request.hidden_sizes, request.preferences.columns, request.members
        ).to(device)
    optimizer = Adam(reward.network.parameters(), lr=request.lr)
    plan = PreferencePlan(data.preferences, data.pairs, request.batch_size, request.seed, first=0, part=0, parts=1)
    buffer = plan.load()
    for index in range(pretrain_batches(request.epochs, data.pairs, request.batch_size, request.most)):
        with autocast(device, request.preferences.precision):
            gradient, _ = preference_gradient(reward, buffer, plan.rows(index), plan.size, torch.device(device))
        for parameter, part in zip(reward.network.parameters(), gradient, strict=True):
            parameter.grad = part
        optimizer.step()
    return RewardState.from_network(reward.network, optimizer)


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the autocast context of forward passes: matrix products are in bfloat16 unless `precision` is float32."""
    # No cache of rounded weights, since it would be stale after an optimizer step in the same update.
    return torch.autocast(device, torch.bfloat16, enabled=precision != "float32", cache_enabled=False)


def preference_gradient(
    reward: RewardModel, buffer: PreferenceBuffer, pairs: np.ndarray, total: int, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of Eq. 4 per parameter, and sums [loss, correct, decided], of one part of a mini-batch.

    The loss is the mean over members; `correct` is counted with their mean.

    `pairs` are the pair numbers of the part, `total` is the size of the mini-batch. Results of parts of any sizes add
    up to the results of the mini-batch. The gradient is accumulated over chunks of pairs.
    """
    parameters = list(reward.network.parameters())
    gradient: list[Tensor] = []
    sums = torch.zeros(3, device=device)
    size = PAIRS_PER_CHUNK if device.type == "cpu" else PAIRS_PER_LAUNCH
    for start in range(0, len(pairs), size):
        chunk = pairs[start : start + size]
        label, sides = buffer.segments(chunk, device)
        weights = buffer.weights(chunk, device) or (None, None)
        # One pass for each side: Eq. 3 cancels the output bias, and its two gradients are then sums of the same numbers
        # with opposite signs, exactly zero. Adam would turn any remaining rounding error into a full step.
        logits = [preference_logit(*map(_returns, map(member, sides), weights)) for member in reward.members]
        # The gradient of a sum gives each member the gradient of its own loss.
        losses = torch.stack([preference_loss(logit, label) for logit in logits]) * (len(chunk) / total)
        chunk_gradient = list(torch.autograd.grad(losses.sum(), parameters))
        if gradient:
            torch._foreach_add_(gradient, chunk_gradient)
        gradient = gradient or chunk_gradient
        with torch.no_grad():
            decided = label != 0.5
            loss, logit = losses.mean(), torch.stack(logits).mean(0)
            correct = ((logit > 0) == (label > 0.5)) & decided
            sums += torch.stack([loss, correct.sum(), decided.sum()])
    return gradient or [torch.zeros_like(parameter) for parameter in parameters], sums


def _returns(rewards: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sums [n] of rewards [n, length] of segments, with the `weights` of rows if pages have several."""
    return rewards.sum(-1) if weights is None else (rewards * weights).sum(-1)


def update_metrics(sums: Tensor) -> dict[str, Tensor]:
    """Return the metrics of a mini-batch from its sums [loss, correct, decided].

    The accuracy is NaN if all are ties.
    """
    loss, correct, decided = sums
    return {"losses/reward_loss": loss, ACCURACY: correct / decided}


def mean_metrics(updates: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each metric over mini-batches; the accuracy ignores mini-batches with only ties.

    Other metrics keep NaN: a NaN loss shows that training diverged.
    """
    values: dict[str, list[Tensor]] = {}
    for metrics in updates:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    stacked = {name: torch.stack(column) for name, column in values.items()}
    return {name: column.nanmean() if name == ACCURACY else column.mean() for name, column in stacked.items()}
