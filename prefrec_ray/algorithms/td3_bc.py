"""TD3+BC (Fujimoto and Gu 2021): TD3 whose actor is also pulled to the logged action, Q scaled by its own size."""

from __future__ import annotations

from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.td3 import TD3Config, TD3Learner


class TD3BCConfig(TD3Config):
    """`TD3Config`; bc_alpha is how much Q counts against imitation (2.5 in the paper, its Eq. 5)."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or TD3_BC)

    def get_default_learner_class(self) -> type:
        """`TD3BCLearner`."""
        return TD3BCLearner


class TD3BCLearner(TD3Learner):
    """TD3's update with an anchored actor, whatever action_constraint says."""

    def policy_loss(self, obs: Tensor, action: Tensor) -> Tensor:
        """-lambda Q1(s, pi(s)) + (pi(s) - a)^2."""
        policy = self.net.actor(obs)
        return self.anchored(self.net.q[0](obs, policy), policy, action)


class TD3_BC(OfflineAlgorithm):
    """Builds from `TD3BCConfig` or by the string "TD3_BC"."""

    @classmethod
    def get_default_config(cls) -> TD3BCConfig:
        """The recipe `robust`."""
        return TD3BCConfig()
