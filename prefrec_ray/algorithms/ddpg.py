"""DDPG (Lillicrap et al. 2016): Q on the target networks' next action, a deterministic actor that maximizes Q."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import polyak_update, target_copy


class DDPGModule(OfflineModule):
    """Networks: reward (base class), q, actor, and a target network of each."""

    actor: DeterministicActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.q = self.q_function()
        self.actor = self.deterministic_actor()
        self.target_q = target_copy(self.q)
        self.target_actor = target_copy(self.actor)


class DDPGLearner(OfflineLearner):
    """Updates critic, actor and targets."""

    net: DDPGModule

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update Q on r + gamma Qbar(s', pibar(s')), then the actor on -Q(s, pi(s)), then both targets."""
        net, tau = self.net, self.config.tau
        next_obs = batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            next_value = net.target_q(next_obs, net.target_actor(next_obs))

        metrics = self.update_q(batch, reward, next_value)
        metrics |= self.update_deterministic_actor(batch)
        polyak_update(net.target_q, net.q, tau)
        polyak_update(net.target_actor, net.actor, tau)
        return metrics


class DDPGConfig(OfflineConfig):
    """Config of `DDPG`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or DDPG)


class DDPG(OfflineAlgorithm):
    """Deep deterministic policy gradient.

    Q:      mean (r + gamma Qbar(s', pibar(s')) - Q(s, a))^2
    actor:  -mean Q(s, pi(s))

    Reference: Lillicrap et al. 2016, "Continuous Control with Deep Reinforcement Learning". Without its weight decay on
    Q, batch normalisation and exploration noise. Settings: the settings of every method.
    """

    Settings = TrainingSettings
    Config = DDPGConfig
    Module = DDPGModule
    Learner = DDPGLearner
