"""SAC (Haarnoja et al. 2018): twin soft Q, a tanh-Gaussian actor, a learned temperature."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn
from torch.nn import functional

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import actor_loss, gaussian_log_density
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.policy.networks.actors import GaussianActor
from prefrec_ray.policy.networks.layers import mlp, polyak_update, target_copy


class Temperature(nn.Module):
    """The entropy coefficient alpha, learned as its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))


class SACModule(OfflineModule):
    """Networks: reward (base class), twin q and their targets, a Gaussian actor, a temperature."""

    serves_by_density = True
    q: nn.ModuleList
    target_q: nn.ModuleList
    actor: GaussianActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.q = self.twin_q()
        self.target_q = target_copy(self.q)
        bounds = self.action_space.low, self.action_space.high
        net = mlp(self.state_dim, self.hidden_sizes, self.action_dim)
        self.actor = GaussianActor(net, *bounds, state_deviation=True)
        self.temperature = Temperature()

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions [B, A] in the bounds and log-densities [B] of their tanh part, for normal `noise` [B, A]."""
        mean, log_std = self.actor.distribution(states)
        x = mean + log_std.exp() * noise
        # log(1 - tanh(x)^2) in a form that does not underflow.
        squash = (2.0 * (math.log(2.0) - x - functional.softplus(-2.0 * x))).sum(-1)
        return self.actor.squashed(x), gaussian_log_density(x, mean, log_std) - squash


class SACLearner(OfflineLearner):
    """Updates critics, actor, temperature and targets."""

    net: SACModule
    rates: ClassVar = {"q": "critic_lr", "actor": "actor_lr", "temperature": "actor_lr"}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update Q on r + gamma (min Qbar - alpha log pi)(s', a'), the actor on alpha log pi - min Q, then alpha."""
        net = self.net
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        width = action.shape[1]
        with torch.no_grad():
            reward = net.reward.label(batch)
            alpha = net.temperature.log.exp()
            next_action, next_log_density = net.sample(next_obs, self.noise(width))
            next_q = torch.minimum(*(q(next_obs, next_action) for q in net.target_q))
            next_value = next_q - alpha * next_log_density

        metrics = self.update_q(batch, reward, next_value)
        policy, log_density = net.sample(obs, self.noise(width, draw=1))
        soft_q = torch.minimum(*(q(obs, policy) for q in net.q)) - alpha * log_density
        metrics |= self.update_actor(actor_loss(soft_q))

        # The target entropy is -A: log pi + (-A) -> 0.
        temperature_loss = -net.temperature.log * (log_density.detach().mean() - width)
        self.minimise("temperature", net.temperature, temperature_loss)

        polyak_update(net.target_q, net.q, self.config.tau)
        return {**metrics, "values/temperature": alpha}


class SACConfig(OfflineConfig):
    """Config of `SAC`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or SAC)


class SAC(OfflineAlgorithm):
    """Soft actor-critic with a learned temperature alpha.

    y = r + gamma (min_i Qbar_i(s', a') - alpha log pi(a'|s')),  a' ~ pi(s')
    Q1, Q2: mean (y - Qi(s, a))^2, summed
    actor:  mean (alpha log pi(a~|s) - min_i Qi(s, a~)),  a~ ~ pi(s)
    alpha:  -log alpha (mean log pi(a~|s) - A)

    Reference: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications". Settings: the settings of every
    method; alpha has the rate of the actor.
    """

    Settings = TrainingSettings
    Config = SACConfig
    Module = SACModule
    Learner = SACLearner
