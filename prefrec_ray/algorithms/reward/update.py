"""One update of the reward model from preferences (Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.algorithms.base.losses import preference_logit, preference_loss
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.reward.model import RewardModel

#: Pairs in one forward pass: 16 are a tenth slower; all 256 are no faster and take four times the memory.
PAIRS_PER_CHUNK = 64


def preference_gradient(
    reward: RewardModel, buffer: PreferenceBuffer, pairs: np.ndarray, total: int, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """The gradient of Eq. 4 for each parameter, and sums [loss, correct, decided], of one part of a mini-batch.

    The loss is the mean over members; what is correct is so by their mean.

    `pairs` are the part's pair numbers, `total` is the size of the mini-batch: results of parts of any sizes add up to
    those of the mini-batch. The gradient is accumulated over chunks of pairs.
    """
    parameters = list(reward.network.parameters())
    gradient: list[Tensor] = []
    sums = torch.zeros(3, device=device)
    for start in range(0, len(pairs), PAIRS_PER_CHUNK):
        chunk = pairs[start : start + PAIRS_PER_CHUNK]
        label = torch.from_numpy(buffer.label[chunk]).to(device)
        logits = _logits(reward.members, buffer, chunk, device)
        # Of a sum each member gets the gradient of its own loss.
        losses = torch.stack([preference_loss(logit, label) for logit in logits]) * (len(chunk) / total)
        chunk_gradient = list(torch.autograd.grad(losses.sum(), parameters))
        if gradient:
            torch._foreach_add_(gradient, chunk_gradient)
        gradient = gradient or chunk_gradient
        with torch.no_grad():
            decided = label != 0.5
            loss, logit = losses.mean(), torch.stack(logits).mean(0)
            sums += torch.stack([loss, ((logit > 0) == (label > 0.5))[decided].sum(), decided.sum()])
    return gradient or [torch.zeros_like(parameter) for parameter in parameters], sums


def update_metrics(sums: Tensor) -> dict[str, Tensor]:
    """The metrics of a mini-batch from its sums [loss, correct, decided]."""
    loss, correct, decided = sums
    return {"losses/reward_loss": loss, "reward/accuracy_train": correct / decided.clamp(min=1)}


def _logits(
    members: Sequence[nn.Module], buffer: PreferenceBuffer, pairs: np.ndarray, device: torch.device
) -> list[Tensor]:
    # One pass for each side: Eq. 3 cancels the output bias, and its two gradients are then sums of the same numbers
    # with opposite signs, exactly zero. Adam would turn any rounding error that is left into a full step.
    steps = np.arange(buffer.length)
    sides = [buffer.rows(first[:, None] + steps).to(device) for first in buffer.first[pairs].T]
    return [preference_logit(*(member(side).sum(-1) for side in sides)) for member in members]
