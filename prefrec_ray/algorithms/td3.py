"""TD3 (Fujimoto et al. 2018): DDPG with twin Q, a smoothed target action, and delayed updates of the actor.

TD3+BC (Fujimoto and Gu 2021) adds a behavior-cloning term to the actor's loss, and scales Q by its size.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.columns import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import actor_loss, behavior_cloning_loss
from prefrec_ray.algorithms.settings import TD3BCSettings, TD3Settings
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import polyak_update, target_copy


class TD3Module(OfflineModule):
    """Networks: reward (base class), twin q, actor, and a target network of each."""

    q: nn.ModuleList
    actor: DeterministicActor
    target_q: nn.ModuleList
    target_actor: DeterministicActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.q = self.twin_q()
        self.actor = self.deterministic_actor()
        self.target_q = target_copy(self.q)
        self.target_actor = target_copy(self.actor)


class TD3Learner(OfflineLearner):
    """Critics every update; actor and targets every `policy_delay` updates."""

    net: TD3Module

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update Q on r + gamma min Qbar(s', pibar(s') + noise); actor and targets every `policy_delay` updates."""
        net, config = self.net, self.config
        next_obs = batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            next_action = self._smoothed(net.target_actor(next_obs))
            next_value = torch.minimum(*(q(next_obs, next_action) for q in net.target_q))

        metrics = self.update_q(batch, reward, next_value)
        if (self.update_index + 1) % config.policy_delay == 0:
            metrics |= self.update_deterministic_actor(batch)
            polyak_update(net.target_q, net.q, config.tau)
            polyak_update(net.target_actor, net.actor, config.tau)
        return metrics

    def _smoothed(self, action: Tensor) -> Tensor:
        config, actor = self.config, self.net.actor
        half = 0.5 * (actor.high - actor.low)
        noise = (self.noise(action.shape[1]) * config.target_noise).clamp(-config.noise_clip, config.noise_clip)
        return torch.clamp(action + noise * half, actor.low, actor.high)


class TD3Config(OfflineConfig):
    """Config of `TD3`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or TD3)

    @override(OfflineConfig)
    def training(
        self,
        *,
        target_noise: float = NotProvided,
        noise_clip: float = NotProvided,
        policy_delay: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the settings of the method.

        Args:
            target_noise: Deviation of the target action's noise, in half-widths of the bounds.
            noise_clip: Maximum of this noise.
            policy_delay: Updates of Q per update of actor and target networks.
            kwargs: settings of `OfflineConfig.training`.

        Returns:
            This config.
        """
        return super().training(target_noise=target_noise, noise_clip=noise_clip, policy_delay=policy_delay, **kwargs)


class TD3(OfflineAlgorithm):
    """Twin delayed DDPG.

    y = r + gamma min_i Qbar_i(s', clip(pibar(s') + e)),  e = clip(target_noise N(0, 1), -noise_clip, noise_clip)
    Q1, Q2: mean (y - Qi(s, a))^2, summed
    actor:  -mean Q1(s, pi(s)), every `policy_delay` updates

    Reference: Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods". Settings:
    `TD3Settings` (`target_noise`, `noise_clip`, `policy_delay`).
    """

    Settings = TD3Settings
    Config = TD3Config
    Module = TD3Module
    Learner = TD3Learner


class TD3BCLearner(TD3Learner):
    """TD3's update with the actor loss of TD3+BC."""

    def policy_gradient_loss(self, q: Tensor, policy: Tensor, action: Tensor) -> Tensor:
        """Return -lambda Q1(s, pi(s)) + (pi(s) - a)^2, with the mean |Q1| in lambda over all learners (Eq. 5)."""
        scale = self.mean_over_learners(q.detach().abs().mean()).clamp(min=1e-8)
        return (self.config.bc_alpha / scale) * actor_loss(q) + behavior_cloning_loss(policy, action)


class TD3BCConfig(TD3Config):
    """Config of `TD3_BC`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or TD3_BC)

    @override(TD3Config)
    def training(
        self,
        *,
        bc_alpha: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the settings of the method.

        Args:
            bc_alpha: Weight of Q against behavior cloning (typically 2.5).
            kwargs: settings of `TD3Config.training`.

        Returns:
            This config.
        """
        return super().training(bc_alpha=bc_alpha, **kwargs)


class TD3_BC(OfflineAlgorithm):
    """TD3 with behavior cloning.

    actor:  -lambda mean Q1(s, pi(s)) + mean (pi(s) - a)^2,  lambda = bc_alpha / mean |Q1(s, pi(s))|

    Reference: Fujimoto and Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning", Eq. 5. Settings:
    `TD3BCSettings` (`bc_alpha`, 2.5 in the paper, and the settings of TD3).
    """

    Settings = TD3BCSettings
    Config = TD3BCConfig
    Module = TD3Module
    Learner = TD3BCLearner
