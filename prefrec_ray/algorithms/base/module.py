"""RLModule that every method extends: the reward model and an actor; and its weights as plain arrays.

RLlib's checkpoint contains pickles, which run code when they are loaded. Each checkpoint therefore also contains its
networks as arrays and JSON, and all readers except `--resume` use these; `--resume` loads only files of the same user
(`runs.checkpoints.check_own`).

CHECKPOINT/weights.npz  CHECKPOINT/weights.json
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from prefrec_ray import storage
from prefrec_ray.algorithms.reward.model import RewardModel
from prefrec_ray.policy.networks.actors import Actor, DeterministicActor
from prefrec_ray.policy.networks.bundled import check_finite
from prefrec_ray.policy.networks.layers import mlp, seeded
from prefrec_ray.policy.networks.q import QFunction

ARRAYS, DESCRIPTION = "weights.npz", "weights.json"


class OfflineModule(TorchRLModule):
    """Contains `reward` and the networks of `setup_method`, which must set `actor` (states -> actions in bounds).

    `model_config` contains the settings of the run, from `OfflineConfig.module_settings`.
    """

    #: True if a policy scores items by the density of its actor; otherwise by Q.
    serves_by_density: ClassVar[bool] = False

    if TYPE_CHECKING:  # an attribute or property of each method

        @property
        def actor(self) -> Actor: ...

    def setup(self) -> None:
        settings = self.model_config
        self.hidden_sizes = tuple(settings["hidden_sizes"])
        self.state_dim = int(self.observation_space.shape[0])
        self.action_dim = int(self.action_space.shape[0])
        from_batch = settings["reward_source"] == "column" or settings["looks_ahead"]
        with seeded(settings["seed"]):
            self.reward = RewardModel(
                self.state_dim,
                self.action_dim,
                self.hidden_sizes,
                settings["reward_columns"],
                settings["reward_members"],
                from_batch,
            )
            self.setup_method(settings)

    def setup_method(self, settings: dict[str, Any]) -> None:
        """Make the networks of the method."""
        raise NotImplementedError

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """Return the actor's actions for states.

        Args:
            batch: `obs`, scaled states float32 [B, S].
            kwargs: RLlib's; not used.

        Returns:
            `actions`, float32 [B, A], within the bounds of the action space. A policy serves items by these actions or
            by Q (`policy_of`).
        """
        return {Columns.ACTIONS: self.actor(batch[Columns.OBS])}

    @override(TorchRLModule)
    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """Return what the losses compare: the actions of `_forward`, and the values of the logged actions.

        Args:
            batch: `obs` [B, S] and the logged `actions` [B, A].
            kwargs: RLlib's; not used.

        Returns:
            `actions` [B, A], and `q` [B, C] with a column for each of the method's Q networks (IL has none).
        """
        q = [critic(batch[Columns.OBS], batch[Columns.ACTIONS]) for critic in self.critics]
        return {**self._forward(batch), **({"q": torch.stack(q, dim=1)} if q else {})}

    def deterministic_actor(self) -> DeterministicActor:
        """Return a deterministic actor for the module's spaces."""
        net = mlp(self.state_dim, self.hidden_sizes, self.action_dim)
        return DeterministicActor(net, self.action_space.low, self.action_space.high)

    def q_function(self) -> QFunction:
        products = self.model_config["product_columns"]
        return QFunction.random(self.state_dim, self.action_dim, self.hidden_sizes, products)

    def twin_q(self) -> nn.ModuleList:
        return nn.ModuleList([self.q_function(), self.q_function()])

    @property
    def critics(self) -> list[QFunction]:
        """Return the Q networks of the method, one or two; empty for IL."""
        return _listed(getattr(self, "q", None))

    @property
    def served_critics(self) -> list[QFunction]:
        """Return the networks that score items in a policy: the target networks of `critics` if the method has them.

        Targets are running means of Q's weights. They average out the noise of single updates, which would decide
        between items that are almost equal.
        """
        return _listed(getattr(self, "target_q", None)) or self.critics


@dataclass(frozen=True)
class NetworkWeights:
    """State of an `OfflineModule` by name, and the JSON to build it from: settings, widths, bounds."""

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]

    @classmethod
    def from_module(cls, module: Any) -> NetworkWeights:
        """Return a copy of the current weights of `module`."""
        actions = module.action_space
        return cls(
            {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()},
            {
                "settings": dict(module.model_config),
                "state_dim": module.state_dim,
                "action_low": actions.low.tolist(),
                "action_high": actions.high.tolist(),
            },
        )

    def save(self, folder: str) -> None:
        storage.write_arrays(storage.join(folder, ARRAYS), self.arrays)
        storage.write_json(storage.join(folder, DESCRIPTION), self.description)

    @classmethod
    def load(cls, folder: str) -> NetworkWeights:
        """Load both files. Raises `UserError` if one is missing or damaged, or a number is not finite."""
        arrays = storage.read_arrays(storage.join(folder, ARRAYS))
        check_finite(arrays, folder)
        return cls(arrays, storage.read_json(storage.join(folder, DESCRIPTION)))


def _listed(q: Any) -> list[QFunction]:
    return [] if q is None else [*q] if isinstance(q, nn.ModuleList) else [q]
