"""Huber cloning: behavior cloning in which far outliers of the logged actions count less (Huber 1964)."""

from pydantic import Field
from ray.rllib.core.columns import Columns
from torch import Tensor
from torch.nn.functional import huber_loss

from prefrec_ray.algorithms.il import IL, ILLearner
from prefrec_ray.algorithms.settings import CloningSettings


class HuberSettings(CloningSettings):
    """Settings of behavior cloning, and the distance up to which the loss is quadratic."""

    delta: float = Field(default=1.0, gt=0, description="distance of a coordinate from which the loss is linear")


class HuberLearner(ILLearner):
    """Robust regression on the logged action."""

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one step on the Huber loss between the policy's action and the logged action."""
        policy = self.net.actor(batch[Columns.OBS])
        return self.update_actor(huber_loss(policy, batch[Columns.ACTIONS], delta=self.config.delta))


class Huber(IL):
    """Behavior cloning with the Huber loss."""

    Settings = HuberSettings
    Learner = HuberLearner
