"""Diagnostics of every iteration: the reward model on held-out pairs, and the items that the policy would serve."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.losses import preference_logit, preference_loss
from prefrec_ray.policy import Policy
from prefrec_ray.policy.actions import placed

_CHUNK = 16_384


def segment_returns(reward: nn.Module, inputs: np.ndarray, first: np.ndarray, length: int) -> torch.Tensor:
    """Return summed rewards, float64 [...], of segments: `length` rows of `inputs` [M, D] from `first` [...] on."""
    rewards = [reward(chunk.to(_device(reward))).cpu() for chunk in _chunks(inputs)]
    # Every row is scored once; a segment's sum is a difference of running sums.
    running = torch.cat([torch.zeros(1), *rewards]).double().cumsum(0)
    begin = torch.tensor(first)
    return running[begin + length] - running[begin]


def reward_accuracy(net: OfflineModule, buffer: PreferenceBuffer, by_teacher: bool = False) -> dict[str, float]:
    """Return accuracy (without ties) and loss (all pairs) on held-out preferences, across and within users.

    With `by_teacher` also the accuracy on each teacher's labels. A kind without pairs is omitted.
    """
    with torch.no_grad():
        returns = segment_returns(net.reward, buffer.inputs, buffer.first, buffer.length)
        logit = preference_logit(returns[:, 0], returns[:, 1])
    label = torch.tensor(buffer.label)
    within = torch.tensor(buffer.within)
    hits = ((logit > 0) == (label > 0.5)).double()
    scores = {}
    for name, kind in (("any_users", ~within), ("within_user", within)):
        decided = kind & (label != 0.5)
        if decided.any():
            scores[f"reward/accuracy_{name}"] = hits[decided].mean().item()
            scores[f"reward/loss_{name}"] = preference_loss(logit[kind], label[kind].double()).item()
    for teacher in np.unique(buffer.teacher) if by_teacher else ():
        decided = torch.tensor(buffer.teacher == teacher) & (label != 0.5)
        if decided.any():
            scores[f"reward/accuracy_by/{teacher}"] = hits[decided].mean().item()
    return scores


def policy_diagnostics(policy: Policy, states: np.ndarray) -> dict[str, float]:
    """Return the saturated share of coordinates, mean distance to an item, and number of items, in `states` [n, S]."""
    if len(states) == 0:
        return {}
    lie = placed(policy, policy.act(states))
    return {
        "policy/action_saturation": float(lie.saturated.mean()),
        "policy/item_distance": float(lie.distance.mean()),
        "policy/items_served": float(len(np.unique(lie.row))),
    }


def _chunks(rows: np.ndarray) -> list[torch.Tensor]:
    # Copies, because arrays from the object store are read-only, which torch does not support.
    return [torch.tensor(rows[i : i + _CHUNK]) for i in range(0, len(rows), _CHUNK)]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
