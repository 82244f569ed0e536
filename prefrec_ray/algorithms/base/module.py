"""The RLModule that every method extends: the reward model, its standardisation, and an actor to act with."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from prefrec_ray.networks.layers import ActorNetwork, DeterministicActor, Scalar, start_at_zero


class OfflineModule(TorchRLModule):
    """Holds `reward` and what a method adds in `setup_method`, which must set `actor` (states -> actions in bounds).

    `model_config` (made by `OfflineConfig.module_settings`) gives hidden_sizes, seed,
    reward_source, looks_ahead, reward_input and reward_columns.
    """

    actor: ActorNetwork
    reward_columns: Tensor
    reward_mean: Tensor
    reward_std: Tensor

    def setup(self) -> None:
        settings = self.model_config
        self.hidden_sizes = tuple(settings["hidden_sizes"])
        self.state_dim = int(self.observation_space.shape[0])
        self.action_dim = int(self.action_space.shape[0])
        self.given_reward = settings["reward_source"] == "column"
        # Labels that look ahead come with the batches (look_ahead.py). A checkpoint of before them does not say it.
        self.looks_ahead = settings.get("looks_ahead", False)
        self.next_state_reward = settings["reward_input"] == "next_state"
        # Weights depend on the seed alone: every learner of a group starts from the same ones.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings["seed"])
            columns = torch.as_tensor(settings["reward_columns"], dtype=torch.int64)
            self.register_buffer("reward_columns", columns, persistent=False)
            width = len(columns) if self.next_state_reward else self.state_dim + self.action_dim
            # The paper does not say how networks start. What an untrained reward happens to say of a state would stay
            # in it where preferences are silent, as noise that is larger than what they teach (docs/recipe.md).
            self.reward = start_at_zero(Scalar(width, self.hidden_sizes))
            self.register_buffer("reward_mean", torch.zeros(()))
            self.register_buffer("reward_std", torch.ones(()))
            self.setup_method(settings)

    def setup_method(self, settings: dict[str, Any]) -> None:
        """Makes the networks of a method."""
        raise NotImplementedError

    def deterministic_actor(self) -> DeterministicActor:
        """An actor over the module's spaces."""
        return DeterministicActor(self.state_dim, self.hidden_sizes, self.action_space.low, self.action_space.high)

    def q_function(self) -> Scalar:
        """A Q over state and action."""
        return Scalar(self.state_dim + self.action_dim, self.hidden_sizes)

    @property
    def critics(self) -> list[nn.Module]:
        """The method's Q, one or two; empty where it has none."""
        q = getattr(self, "q", None)
        return [] if q is None else [*q] if isinstance(q, nn.ModuleList) else [q]

    def label(self, batch: dict[str, Tensor]) -> Tensor:
        """Rewards [B] of a batch of transitions, standardised (mean 0 and deviation 1 where that is off)."""
        if self.given_reward or self.looks_ahead:
            raw = batch[Columns.REWARDS]
        elif self.next_state_reward:
            raw = self.reward(batch[Columns.NEXT_OBS].index_select(1, self.reward_columns))
        else:
            raw = self.reward(batch[Columns.OBS], batch[Columns.ACTIONS])
        return (raw - self.reward_mean) / self.reward_std

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.actor(batch[Columns.OBS])}
