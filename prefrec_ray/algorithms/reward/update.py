"""One update of the reward model from preferences (Eq. 4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.algorithms.base.losses import preference_logit, preference_loss
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.reward.model import RewardModel

#: Pairs in one forward pass: 16 take a tenth longer, all 256 four times the memory for nothing.
PAIRS_PER_CHUNK = 64


def preference_gradient(
    reward: RewardModel, buffer: PreferenceBuffer, pairs: np.ndarray, total: int, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """The gradient of Eq. 4 by the network's parameters, and [loss, correct, decided], of a part of a mini-batch.

    `pairs` are the part's numbers, `total` the pairs of the whole mini-batch: sums over its parts, of any sizes, are
    those of the mini-batch. The gradient is accumulated over chunks of pairs.
    """
    parameters = list(reward.network.parameters())
    gradient: list[Tensor] = []
    sums = torch.zeros(3, device=device)
    for start in range(0, len(pairs), PAIRS_PER_CHUNK):
        chunk = pairs[start : start + PAIRS_PER_CHUNK]
        label = torch.from_numpy(buffer.label[chunk]).to(device)
        logit = _logits(reward, buffer, chunk, device)
        loss = preference_loss(logit, label) * (len(chunk) / total)
        of_chunk = list(torch.autograd.grad(loss, parameters))
        if gradient:
            torch._foreach_add_(gradient, of_chunk)
        gradient = gradient or of_chunk
        with torch.no_grad():
            decided = label != 0.5
            sums += torch.stack([loss, ((logit > 0) == (label > 0.5))[decided].sum(), decided.sum()])
    return gradient or [torch.zeros_like(parameter) for parameter in parameters], sums


def update_metrics(sums: Tensor) -> dict[str, Tensor]:
    """The metrics of a mini-batch from its [loss, correct, decided]."""
    loss, correct, decided = sums
    return {"losses/reward_loss": loss, "reward/accuracy_train": correct / decided.clamp(min=1)}


def _logits(reward: RewardModel, buffer: PreferenceBuffer, pairs: np.ndarray, device: torch.device) -> Tensor:
    # A pass for either side: the two gradients of the reward's output bias, which Eq. 3 cancels, are then sums of
    # the same numbers with opposite signs, exactly zero. Adam would make a full step of any rounding that is left.
    steps = np.arange(buffer.length)
    returns = [reward(buffer.rows(first[:, None] + steps).to(device)).sum(-1) for first in buffer.first[pairs].T]
    return preference_logit(*returns)
