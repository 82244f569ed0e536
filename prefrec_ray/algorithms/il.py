"""IL: behavior cloning. A deterministic actor is regressed on the logged action; no reward is used."""

from __future__ import annotations

from typing import Any, ClassVar

from ray.rllib.core.columns import Columns
from torch import Tensor

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import behavior_cloning_loss
from prefrec_ray.algorithms.settings import CloningSettings
from prefrec_ray.policy.networks.actors import DeterministicActor


class ILModule(OfflineModule):
    """The actor; the reward network of the base class is not trained."""

    serves_by_density = True
    actor: DeterministicActor

    def setup_method(self, settings: dict[str, Any]) -> None:
        self.actor = self.deterministic_actor()


class ILLearner(OfflineLearner):
    """Regression on the logged action."""

    net: ILModule
    rates: ClassVar = {"actor": "actor_lr"}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one step on the squared distance to the logged action."""
        loss = behavior_cloning_loss(self.net.actor(batch[Columns.OBS]), batch[Columns.ACTIONS])
        return self.update_actor(loss)


class ILConfig(OfflineConfig):
    """Config of `IL`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or IL)


class IL(OfflineAlgorithm):
    """Behavior cloning.

    actor:  mean (pi(s) - a)^2, also over coordinates

    Settings of the reward have no effect.
    """

    Settings = CloningSettings
    Config = ILConfig
    Module = ILModule
    Learner = ILLearner
