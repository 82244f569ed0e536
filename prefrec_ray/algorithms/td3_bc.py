"""TD3+BC (Fujimoto and Gu 2021): TD3 whose actor is also pulled to the logged action, Q scaled by its own size."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from torch import Tensor

from prefrec_ray.algorithms.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.losses import imitation_loss
from prefrec_ray.algorithms.td3 import TD3Config, TD3Learner


class TD3BCConfig(TD3Config):
    """`TD3Config` with bc_alpha: how much Q counts against imitation (2.5 in the paper, its Eq. 5)."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or TD3_BC)
        self.bc_alpha = 2.5

    def training(self, *, bc_alpha: float = NotProvided, **kwargs: Any) -> Self:
        """Sets bc_alpha and `TD3Config`'s settings."""
        super().training(**kwargs)
        if bc_alpha is not NotProvided:
            self.bc_alpha = bc_alpha
        return self

    def get_default_learner_class(self) -> type:
        """`TD3BCLearner`."""
        return TD3BCLearner


class TD3BCLearner(TD3Learner):
    """TD3's update with another loss of the actor."""

    def policy_loss(self, obs: Tensor, action: Tensor) -> Tensor:
        """-lambda Q1(s, pi(s)) + (pi(s) - a)^2 with lambda = alpha / mean |Q1|, the mean over the whole batch."""
        policy = self.net.actor(obs)
        q = self.net.q[0](obs, policy)
        scale = self.mean_over_learners(q.detach().abs().mean()).clamp(min=1e-8)
        return -(self.config.bc_alpha / scale) * q.mean() + imitation_loss(policy, action)


class TD3_BC(OfflineAlgorithm):
    """Builds from `TD3BCConfig` or by the string "TD3_BC"."""

    @classmethod
    def get_default_config(cls) -> TD3BCConfig:
        """The recipe `robust`."""
        return TD3BCConfig()
