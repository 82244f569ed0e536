"""PrefRec and IQL as bare PyTorch loops over arrays in memory: the cost of training without Ray.

`plain_prefrec` and `plain_iql` are the obvious loops: a fused Adam per network, `backward`, all pairs of a reward
update in one batch, rows of a batch drawn from whole arrays. `tuned_prefrec` has the product's own optimizations
(gradients of one network at a time, pairs in chunks), still without Ray. All use the product's networks and losses, so
that only the loop differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.iql import MAX_WEIGHT
from prefrec_ray.algorithms.losses import (
    actor_loss,
    expectile_loss,
    gaussian_log_density,
    preference_logit,
    preference_loss,
    td_loss,
)
from prefrec_ray.algorithms.reward.model import PAIRS_PER_CHUNK
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.policy.networks.actors import DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.layers import Scalar, mlp, polyak_update, target_copy


@dataclass(frozen=True)
class Sizes:
    """Batch sizes, networks and rates of one comparison."""

    hidden_sizes: tuple[int, ...]
    transitions: int
    pairs: int
    rates: dict[str, float]
    gamma: float
    expectile: float
    tau: float
    temperature: float = 3.0
    bc_alpha: float = 2.5


@dataclass(frozen=True)
class Arrays:
    """A data set in plain memory: float32 [N, S], [N, A], [N, S], and its preferences on rows of (s, a)."""

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    preferences: PreferenceBuffer

    @staticmethod
    def load(dataset: PreparedDataset, preferences: PreferenceBuffer) -> Arrays:
        """All transitions of `dataset`."""
        tables = [dataset.read(file) for file in dataset.files("transitions")]
        columns = (np.concatenate([tensor(table[name]) for table in tables]) for name in ("obs", "action", "next_obs"))
        return Arrays(*(torch.from_numpy(column) for column in columns), preferences)

    def batches(self, size: int) -> Any:
        """Endless (obs, action, next_obs), each epoch in its own order; rows that fill no batch sit out."""
        generator = torch.Generator().manual_seed(0)
        while True:
            order = torch.randperm(len(self.obs), generator=generator)
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                yield self.obs[rows], self.action[rows], self.next_obs[rows]

    def pairs(self, size: int) -> Any:
        """Endless numbers of pairs [size]."""
        generator = np.random.default_rng(0)
        while True:
            order = generator.permutation(len(self.preferences))
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]


class Networks(nn.Module):
    """Reward, V, Q (one or two), their target, and an actor."""

    def __init__(self, arrays: Arrays, sizes: Sizes, twin: bool) -> None:
        super().__init__()
        states, actions = arrays.obs.shape[1], arrays.action.shape[1]
        hidden, bound = sizes.hidden_sizes, np.ones(actions, dtype=np.float32)
        self.reward = Scalar(states + actions, hidden)
        self.value = Scalar(states, hidden)
        self.q = nn.ModuleList([Scalar(states + actions, hidden) for _ in range(1 + twin)])
        self.target_q = target_copy(self.q)
        self.actor = (
            GaussianActor(mlp(states, hidden, actions), -bound, bound, state_deviation=False)
            if twin
            else DeterministicActor(mlp(states, hidden, actions), -bound, bound)
        )
        self.optimizers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=sizes.rates[name], fused=True)
            for name in ("reward", "value", "q", "actor")
        }

    def step(self, name: str, loss: Tensor) -> None:
        """`backward` through all that the loss runs through, then the step of one optimizer."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()

    def step_alone(self, name: str, loss: Tensor) -> None:
        """The same step with the gradient of one network only."""
        parameters = list(getattr(self, name).parameters())
        self.apply_gradient(name, torch.autograd.grad(loss, parameters))

    def apply_gradient(self, name: str, gradient: Any) -> None:
        """The step of one optimizer on the gradient given."""
        for parameter, part in zip(getattr(self, name).parameters(), gradient, strict=True):
            parameter.grad = part
        self.optimizers[name].step()


def plain_prefrec(arrays: Arrays, sizes: Sizes) -> Callable[[], None]:
    """One call is one update of V, Q and actor and one of the reward on a whole batch of pairs (Algorithm 1)."""
    net = Networks(arrays, sizes, twin=False)
    return prefrec_updates(net, net.step, plain_reward(net, arrays, sizes), arrays.batches(sizes.transitions), sizes)


def tuned_prefrec(arrays: Arrays, sizes: Sizes) -> Callable[[], None]:
    """The same update; each loss has the gradient of one network, and the pairs come in chunks."""
    net = Networks(arrays, sizes, twin=False)
    update_reward = tuned_reward(net, arrays, sizes)
    return prefrec_updates(net, net.step_alone, update_reward, arrays.batches(sizes.transitions), sizes)


def plain_reward(net: Networks, arrays: Arrays, sizes: Sizes) -> Callable[[], None]:
    """One call is one update of the reward (Eq. 4), all pairs in one batch."""
    pairs, buffer, steps = arrays.pairs(sizes.pairs), arrays.preferences, np.arange(arrays.preferences.length)

    def update() -> None:
        chosen = next(pairs)
        rows = torch.from_numpy(buffer.inputs[buffer.first[chosen][:, :, None] + steps])
        returns = net.reward(rows).sum(-1)
        label = torch.from_numpy(buffer.label[chosen])
        net.step("reward", preference_loss(preference_logit(returns[:, 0], returns[:, 1]), label))

    return update


def tuned_reward(net: Networks, arrays: Arrays, sizes: Sizes) -> Callable[[], None]:
    """The same update, its gradient summed over chunks of pairs."""
    pairs, buffer, steps = arrays.pairs(sizes.pairs), arrays.preferences, np.arange(arrays.preferences.length)
    parameters = list(net.reward.parameters())

    def update() -> None:
        chosen, gradient = next(pairs), None
        for start in range(0, len(chosen), PAIRS_PER_CHUNK):
            chunk = chosen[start : start + PAIRS_PER_CHUNK]
            returns = [
                net.reward(torch.from_numpy(buffer.inputs[first[:, None] + steps])).sum(-1)
                for first in buffer.first[chunk].T
            ]
            loss = preference_loss(preference_logit(*returns), torch.from_numpy(buffer.label[chunk]))
            part = torch.autograd.grad(loss * (len(chunk) / len(chosen)), parameters)
            if gradient is None:
                gradient = list(part)
            else:
                torch._foreach_add_(gradient, list(part))
        net.apply_gradient("reward", gradient)

    return update


def plain_iql(arrays: Arrays, sizes: Sizes) -> Callable[[], None]:
    """One call is one update of V, twin Q and actor (Kostrikov et al. 2022) on rewards of the reward model."""
    net, batches = Networks(arrays, sizes, twin=True), arrays.batches(sizes.transitions)

    def update() -> None:
        obs, action, next_obs = next(batches)
        with torch.no_grad():
            reward = net.reward(obs, action)
            target = torch.minimum(*(q(obs, action) for q in net.target_q))
        net.step("value", expectile_loss(target - net.value(obs), sizes.expectile))
        with torch.no_grad():
            weight = (sizes.temperature * (target - net.value(obs))).exp().clamp(max=MAX_WEIGHT)
            next_value = net.value(next_obs)
        mean, log_std = net.actor.distribution(obs)
        net.step("actor", -(weight * gaussian_log_density(action, net.actor.squashed(mean), log_std)).mean())
        net.step("q", torch.stack([td_loss(q(obs, action), reward, next_value, sizes.gamma) for q in net.q]).sum())
        polyak_update(net.target_q, net.q, sizes.tau)

    return update


def prefrec_updates(
    net: Networks, step: Callable[[str, Tensor], None], update_reward: Callable[[], None], batches: Any, sizes: Sizes
) -> Callable[[], None]:
    """One call is one update of V, Q and actor by `step` on the next of `batches`, then one of the reward."""
    (q,), (target_q,) = net.q, net.target_q

    def update() -> None:
        obs, action, next_obs = next(batches)
        with torch.no_grad():
            reward, target = net.reward(obs, action), target_q(obs, action)
        step("value", expectile_loss(target - net.value(obs), sizes.expectile))
        with torch.no_grad():
            next_value = net.value(next_obs)
        step("q", td_loss(q(obs, action), reward, next_value, sizes.gamma))
        step("actor", actor_loss(q(obs, net.actor(obs))))
        polyak_update(target_q, q, sizes.tau)
        update_reward()

    return update


#: Constructors of the loops; the tuned ones have the product's optimizations.
LOOPS: dict[str, Callable[[Arrays, Sizes], Callable[[], None]]] = {
    "tuned bare PrefRec": tuned_prefrec,
    "plain bare PrefRec": plain_prefrec,
    "plain bare IQL": plain_iql,
    "tuned bare reward": lambda arrays, sizes: tuned_reward(Networks(arrays, sizes, twin=False), arrays, sizes),
}
