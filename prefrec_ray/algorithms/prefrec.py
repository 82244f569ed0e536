"""PrefRec (Algorithm 1): a reward learned from preferences, an expectile V, a Q, a deterministic actor."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.columns import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import expectile_loss
from prefrec_ray.algorithms.settings import ExpectileSettings
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Scalar, polyak_update, target_copy


class PrefRecModule(OfflineModule):
    """Networks: reward (base class), value, q, target_q, actor."""

    actor: DeterministicActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.value = Scalar(self.state_dim, self.hidden_sizes)
        self.q = self.q_function()
        self.target_q = target_copy(self.q)
        self.actor = self.deterministic_actor()


class PrefRecLearner(OfflineLearner):
    """Updates of lines 8 to 13 of Algorithm 1; lines 14 to 17 follow in the base class."""

    net: PrefRecModule
    rates: ClassVar = {"value": "value_lr", "q": "critic_lr", "actor": "actor_lr"}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update reward label, V, Q, actor and target network; each update uses the networks changed before."""
        net, config = self.net, self.config
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            target = net.target_q(obs, action)

        value = net.value(obs)
        value_loss = expectile_loss(target - value, config.expectile)
        self.minimise("value", net.value, value_loss)

        with torch.no_grad():
            next_value = net.value(next_obs)
        metrics = {"losses/value_loss": value_loss.detach(), "values/v_mean": value.detach().mean()}
        metrics |= self.update_q(batch, reward, next_value)
        metrics |= self.update_deterministic_actor(batch)
        polyak_update(net.target_q, net.q, config.tau)
        return metrics


class PrefRecConfig(OfflineConfig):
    """Config of `PrefRec`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or PrefRec)

    @override(OfflineConfig)
    def training(
        self,
        *,
        expectile: float = NotProvided,
        value_lr: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the settings of the method.

        Args:
            expectile: Expectile of V (Eq. 9), from .5 (the mean) to 1 (typically between .6 and .9).
            value_lr: Learning rate of V.
            kwargs: settings of `OfflineConfig.training`.

        Returns:
            This config.
        """
        return super().training(expectile=expectile, value_lr=value_lr, **kwargs)


class PrefRec(OfflineAlgorithm):
    """PrefRec, the method of the paper: expectile V, Q and a deterministic actor on a learned reward.

    u = Qbar(s, a) - V(s)
    V:      mean |expectile - 1(u < 0)| u^2                 (Eq. 9)
    Q:      mean (r + gamma V(s') - Q(s, a))^2              (Eq. 6)
    actor:  -mean Q(s, pi(s))                               (Eq. 10)

    Reference: "PrefRec: Recommender Systems with Human Preferences for Reinforcing Long-term User Engagement", KDD
    2023, Algorithm 1. Settings: `ExpectileSettings` (`expectile`, `value_lr`, and the settings of every method).
    """

    Settings = ExpectileSettings
    Config = PrefRecConfig
    Module = PrefRecModule
    Learner = PrefRecLearner
