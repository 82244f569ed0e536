"""TD3 (Fujimoto et al. 2018): DDPG with twin Q, a smoothed target action, and delayed updates of the actor."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import td_loss
from prefrec_ray.algorithms.settings import TD3Settings
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import polyak_update, target_copy


class TD3Module(OfflineModule):
    """Networks: reward (base class), twin q, actor, and a target network of each."""

    q: nn.ModuleList
    actor: DeterministicActor
    target_q: nn.ModuleList
    target_actor: DeterministicActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        """Make the networks; targets start as copies."""
        self.q = nn.ModuleList([self.q_function(), self.q_function()])
        self.actor = self.deterministic_actor()
        self.target_q = target_copy(self.q)
        self.target_actor = target_copy(self.actor)


class TD3Learner(OfflineLearner):
    """Critics every update; actor and targets every `policy_delay` updates."""

    net: TD3Module

    def networks_to_train(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        """Return both Q under one optimizer, and the actor."""
        return {"q": (self.net.q, config.critic_lr), "actor": (self.net.actor, config.actor_lr)}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update Q on r + gamma min Qbar(s', pibar(s') + noise); actor and targets every `policy_delay` updates."""
        net, config = self.net, self.config
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            next_action = self._smoothed(net.target_actor(next_obs))
            next_value = torch.minimum(*(q(next_obs, next_action) for q in net.target_q))

        qs = [q(obs, action) for q in net.q]
        qf_loss = torch.stack([td_loss(q, reward, next_value, config.gamma) for q in qs]).sum()
        self.minimise("q", net.q, qf_loss)
        metrics = {
            "losses/qf_loss": qf_loss.detach(),
            "values/reward_mean": reward.mean(),
            "values/q_mean": qs[0].detach().mean(),
        }

        if (self.update_index + 1) % config.policy_delay == 0:
            policy_loss = self.policy_loss(obs, action)
            self.minimise("actor", net.actor, policy_loss)
            metrics["losses/actor_loss"] = policy_loss.detach()
            polyak_update(net.target_q, net.q, config.tau)
            polyak_update(net.target_actor, net.actor, config.tau)
        return metrics

    def policy_loss(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return -Q1(s, pi(s))."""
        policy = self.net.actor(obs)
        return self.policy_gradient_loss(self.net.q[0](obs, policy), policy, action)

    def _smoothed(self, action: Tensor) -> Tensor:
        config, actor = self.config, self.net.actor
        half = 0.5 * (actor.high - actor.low)
        noise = (self.noise(action.shape[1]) * config.target_noise).clamp(-config.noise_clip, config.noise_clip)
        return torch.clamp(action + noise * half, actor.low, actor.high)


class TD3(OfflineAlgorithm):
    """Twin delayed DDPG.

    y = r + gamma min_i Qbar_i(s', clip(pibar(s') + e)),  e = clip(target_noise N(0, 1), -noise_clip, noise_clip)
    Q1, Q2: mean (y - Qi(s, a))^2, summed
    actor:  -mean Q1(s, pi(s)), every `policy_delay` updates

    Reference: Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods". Settings:
    `TD3Settings` (`target_noise`, `noise_clip`, `policy_delay`).
    """

    Settings = TD3Settings
    Module = TD3Module
    Learner = TD3Learner
