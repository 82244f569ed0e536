"""Diagnostics of every iteration: divergence, the reward on held-out pairs, and the items that a policy serves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.losses import preference_logit, preference_loss
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy

_CHUNK = 16_384


def segment_returns(reward: nn.Module, buffer: PreferenceBuffer) -> torch.Tensor:
    """Return the weighted sums of the rewards of all segments, float64 [P, 2]."""
    inputs = buffer.inputs
    device = next(reward.parameters()).device
    # Copies, because arrays from the object store are read-only, which torch does not support.
    chunks = (torch.tensor(inputs[row : row + _CHUNK], device=device) for row in range(0, len(inputs), _CHUNK))
    rewards = [reward(chunk).cpu() for chunk in chunks]
    weighted = torch.cat(rewards) if buffer.weight is None else torch.cat(rewards) * torch.tensor(buffer.weight)
    # Every row is scored once; a segment's sum is a difference of running sums.
    running = torch.cat([torch.zeros(1), weighted]).double().cumsum(0)
    begin = torch.tensor(buffer.first)
    count = buffer.length if buffer.count is None else torch.tensor(buffer.count)
    return running[begin + count] - running[begin]


def reward_accuracy(net: OfflineModule, buffer: PreferenceBuffer, by_teacher: bool = False) -> dict[str, float]:
    """Return accuracy (without ties) and loss (all pairs) on held-out preferences, across and within users.

    With `by_teacher` also the accuracy on each teacher's labels. A kind without pairs is omitted.
    """
    with torch.no_grad():
        returns = segment_returns(net.reward, buffer)
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
    lie = policy.place(policy.act(states))
    return {
        "policy/action_saturation": float(lie.saturated.mean()),
        "policy/item_distance": float(lie.distance.mean()),
        "policy/items_served": float(len(np.unique(lie.row))),
    }


def first_not_finite(updates: Sequence[Mapping[str, Tensor]]) -> tuple[str, int] | None:
    """Return the first loss that was infinite or NaN, and the index of its update; None if all were finite.

    `updates`: the scalars of each update, with losses ("losses/NAME") in the order of their computation.
    """
    for index, metrics in enumerate(updates):
        for name, value in metrics.items():
            if name.startswith("losses/") and not torch.isfinite(value):
                return name.removeprefix("losses/"), index
    return None


def reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of the last iteration.

    RLlib keeps a metric of earlier iterations as NaN: the actor's loss if no update trained the actor. NaN of the last
    iteration comes with "diverged/NAME".
    """
    diverged = any(name.startswith("diverged/") and math.isfinite(value) for name, value in metrics.items())
    return {name: value for name, value in metrics.items() if diverged or not math.isnan(value)}


def stop_if_diverged(losses: Mapping[str, float], iteration: int) -> None:
    """Raise `UserError` if a loss of an iteration is not finite.

    `losses`: by "losses/NAME"; "diverged/NAME", from a learner, is the first update with such a loss.
    """
    bad = [name for name in losses if name.startswith("losses/") and not math.isfinite(losses[name])]
    if bad:
        updates = {name.removeprefix("diverged/"): at for name, at in losses.items() if name.startswith("diverged/")}
        first = min(updates, key=lambda name: updates[name]) if updates else bad[0].removeprefix("losses/")
        raise UserError(
            f"iteration {iteration}: losses/{first}: found {losses[f'losses/{first}']} first; expected finite"
            " losses: training has diverged (use smaller learning rates, or a smaller gamma)"
        )
