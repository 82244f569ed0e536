"""TD3+BC (Fujimoto and Gu 2021): TD3 with a behavior-cloning term in the actor's loss, and Q scaled by its size."""

from __future__ import annotations

from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.settings import TD3Settings
from prefrec_ray.algorithms.td3 import TD3Learner, TD3Module


class TD3BCLearner(TD3Learner):
    """TD3's update with the actor loss of TD3+BC, for any action_constraint."""

    def policy_loss(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return -lambda Q1(s, pi(s)) + (pi(s) - a)^2."""
        policy = self.net.actor(obs)
        return self.td3_bc_loss(self.net.q[0](obs, policy), policy, action)


class TD3_BC(OfflineAlgorithm):
    """TD3 with behavior cloning.

    actor:  -lambda mean Q1(s, pi(s)) + mean (pi(s) - a)^2,  lambda = bc_alpha / mean |Q1(s, pi(s))|

    Reference: Fujimoto and Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning", Eq. 5. Settings:
    `TD3Settings`, and `bc_alpha` (2.5 in the paper).
    """

    Settings = TD3Settings
    Module = TD3Module
    Learner = TD3BCLearner
