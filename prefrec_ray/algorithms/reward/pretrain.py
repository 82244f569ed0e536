"""Pre-training of the reward model (Algorithm 1, lines 3 to 5), once for all runs with the same inputs."""

from __future__ import annotations

import torch

from prefrec_ray.algorithms.feed.device import feed_of
from prefrec_ray.algorithms.feed.load import LoadedData
from prefrec_ray.algorithms.feed.passes import PreferencePlan, pretrain_batches
from prefrec_ray.algorithms.requests import RewardRequest
from prefrec_ray.algorithms.reward.model import RewardModel, seeded
from prefrec_ray.algorithms.reward.state import RewardState
from prefrec_ray.algorithms.reward.update import preference_gradient
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.policy.networks.adam import Adam
from prefrec_ray.runtime.memory import keep_freed_memory


def pretrain(request: RewardRequest, data: LoadedData, device: str = "cpu", share: float = 1.0) -> RewardState:
    """Return the pre-trained reward, equal bit for bit to a run with one learner. `data` contains the preferences.

    `share`: share of a GPU that this process has.
    """
    keep_freed_memory()
    metadata = PreparedDataset.open(request.dataset).metadata
    with seeded(request.seed):
        reward = RewardModel(
            metadata.state_dim, metadata.action_dim, request.hidden_sizes, request.preferences.columns, request.members
        ).to(device)
    optimizer = Adam(reward.network.parameters(), lr=request.lr)
    plan = PreferencePlan(data.preferences, data.pairs, request.batch_size, request.seed, first=0, part=0, parts=1)
    buffer = feed_of(torch.device(device), share).preferences(plan)
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
