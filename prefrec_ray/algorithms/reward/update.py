"""Updates of the reward model from preferences (Eq. 4), and its pre-training (Algorithm 1, lines 3 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.load import LoadedData
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer, PreferencePlan, pretrain_batches
from prefrec_ray.algorithms.losses import preference_logit, preference_loss
from prefrec_ray.algorithms.requests import RewardRequest
from prefrec_ray.algorithms.reward.model import RewardModel, RewardState, seeded
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.memory import keep_freed_memory
from prefrec_ray.policy.networks.adam import Adam

#: Pairs per forward pass on the processor: 16 are 10 % slower; 256 are not faster and take four times the memory.
PAIRS_PER_CHUNK = 64
#: Pairs per forward pass on a GPU, on which a small pass takes as long as its launch (not measured).
PAIRS_PER_LAUNCH = 512
ACCURACY = "reward/accuracy_train"


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
