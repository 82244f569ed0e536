"""IQL (Kostrikov et al. 2022): twin Q, expectile V on the smaller target Q, advantage-weighted regression."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.columns import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import expectile_loss, gaussian_log_density
from prefrec_ray.algorithms.settings import IQLSettings
from prefrec_ray.policy.networks.actors import BoundedGaussianActor
from prefrec_ray.policy.networks.layers import Scalar, mlp, polyak_update, target_copy

#: The weight exp(beta * advantage) is capped here, as in the authors' code.
MAX_WEIGHT = 100.0


class IQLModule(OfflineModule):
    """Networks: reward (base class), value, twin q and their targets, a Gaussian actor."""

    serves_by_density = True

    q: nn.ModuleList
    target_q: nn.ModuleList
    actor: BoundedGaussianActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.value = Scalar(self.state_dim, self.hidden_sizes)
        self.q = self.twin_q()
        self.target_q = target_copy(self.q)
        bounds = self.action_space.low, self.action_space.high
        net = mlp(self.state_dim, self.hidden_sizes, self.action_dim)
        self.actor = BoundedGaussianActor(net, *bounds, state_deviation=False)


class IQLLearner(OfflineLearner):
    """Updates V, actor, Q and targets, in the order of the authors' code."""

    net: IQLModule
    rates: ClassVar = {"value": "value_lr", "q": "critic_lr", "actor": "actor_lr"}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update V on the expectile of min Qbar(s, a), the actor on exp(beta A) log pi(a|s), Q on r + gamma V(s')."""
        net, config = self.net, self.config
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            target = torch.minimum(*(q(obs, action) for q in net.target_q))

        value = net.value(obs)
        value_loss = expectile_loss(target - value, config.expectile)
        self.minimise("value", net.value, value_loss)

        with torch.no_grad():
            weight = (config.temperature * (target - net.value(obs))).exp().clamp(max=MAX_WEIGHT)
            next_value = net.value(next_obs)
        mean, log_std = net.actor.distribution(obs)
        policy_loss = -(weight * gaussian_log_density(action, net.actor.squashed(mean), log_std)).mean()
        metrics = {"losses/value_loss": value_loss.detach(), "values/v_mean": value.detach().mean()}
        metrics |= self.update_actor(policy_loss)
        metrics |= self.update_q(batch, reward, next_value)
        polyak_update(net.target_q, net.q, config.tau)
        return metrics


class IQLConfig(OfflineConfig):
    """Config of `IQL`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or IQL)

    @override(OfflineConfig)
    def training(
        self,
        *,
        temperature: float = NotProvided,
        expectile: float = NotProvided,
        value_lr: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the settings of the method.

        Args:
            temperature: Inverse temperature of the weights, 0 (cloning) to 10 (typically 3).
            expectile: Expectile of V, from .5 (the mean) to 1 (typically between .7 and .9).
            value_lr: Learning rate of V.
            kwargs: settings of `OfflineConfig.training`.

        Returns:
            This config.
        """
        return super().training(temperature=temperature, expectile=expectile, value_lr=value_lr, **kwargs)


class IQL(OfflineAlgorithm):
    """Implicit Q-learning.

    u = min_i Qbar_i(s, a) - V(s)
    V:      mean |expectile - 1(u < 0)| u^2
    actor:  -mean min(exp(temperature u), 100) log N(a; mean(s), deviation)
    Q1, Q2: mean (r + gamma V(s') - Qi(s, a))^2, summed

    Reference: Kostrikov et al. 2022, "Offline Reinforcement Learning with Implicit Q-Learning". Without the cosine
    schedule of the authors' code. Settings: `IQLSettings` (`expectile`, `value_lr`, `temperature`).
    """

    Settings = IQLSettings
    Config = IQLConfig
    Module = IQLModule
    Learner = IQLLearner
