"""CQL: DDPG whose Q is low where the log has no actions (Kumar et al. 2020, Eq. 4)."""

import torch
from pydantic import Field
from ray.rllib.core.columns import Columns
from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.ddpg import DDPGLearner, DDPGModule
from prefrec_ray.algorithms.losses import td_loss
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.policy.networks.layers import polyak_update


class CQLSettings(TrainingSettings):
    conservatism: float = Field(default=1.0, ge=0, description="weight of the gap between all actions and logged ones")
    sampled_actions: int = Field(default=4, ge=1, description="random actions that stand for all")


class CQLLearner(DDPGLearner):
    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        net, config = self.net, self.config
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            reward = net.reward.label(batch)
            next_value = net.target_q(next_obs, net.target_actor(next_obs))

        q = net.q(obs, action)
        others = [net.actor.squashed(self.noise(action.shape[1], draw)) for draw in range(config.sampled_actions)]
        gap = torch.stack([net.q(obs, other) for other in others]).logsumexp(0).mean() - q.mean()
        qf_loss = td_loss(q, reward, next_value, config.gamma) + config.conservatism * gap
        self.minimise("q", net.q, qf_loss)

        metrics = self.update_deterministic_actor(batch)
        polyak_update(net.target_q, net.q, config.tau)
        polyak_update(net.target_actor, net.actor, config.tau)
        return {**metrics, "losses/qf_loss": qf_loss.detach(), "cql/gap": gap.detach()}


class CQL(OfflineAlgorithm):
    Settings = CQLSettings
    Module = DDPGModule
    Learner = CQLLearner
