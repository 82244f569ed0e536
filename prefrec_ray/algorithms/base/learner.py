"""The learner that every method extends: for each mini-batch an update of the method, then one of the reward."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

from prefrec_ray.algorithms.base.losses import actor_loss, imitation_loss, preference_logit, preference_loss
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.feed.batches import PreferencePlan, Stopwatch
from prefrec_ray.algorithms.feed.load import LearnerPlan
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.feed.shards import Shelf
from prefrec_ray.algorithms.reward.state import RewardState
from prefrec_ray.runtime.memory import keep_freed_memory

#: Pairs in one forward pass of the reward update: 16 take a tenth longer, all 256 four times the memory for nothing.
PAIRS_PER_CHUNK = 64
#: Transitions on which the reward's mean and deviation are measured, over all learners.
SCALE_SAMPLE = 65_536


class OfflineLearner(TorchLearner):
    """A method implements `networks_to_train` and `update_policy`; the order of a step is Algorithm 1's."""

    def networks_to_train(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        """For each optimizer its network and learning rate."""
        raise NotImplementedError

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update of everything but the reward model. Returns detached scalars by metric name."""
        raise NotImplementedError

    def noise(self, width: int, draw: int = 0) -> Tensor:
        """Standard normal numbers [B, width] for the rows of this mini-batch; `draw` tells several of a step apart.

        A function of (seed, update, lane): a row gets the same numbers whichever learner holds it, resumed or not.
        """
        plan = self._transitions
        parts = []
        for lane, _, _ in plan.lanes:
            generator = np.random.Generator(np.random.SFC64((plan.seed, self.update_index, lane, draw)))
            parts.append(generator.standard_normal((plan.rows_per_lane, width), dtype=np.float32))
        return torch.from_numpy(np.concatenate(parts)).to(self.device)

    def climb(self, objective: Tensor, policy: Tensor, action: Tensor) -> Tensor:
        """The loss of an actor that climbs `objective` [B] (its Q) at `policy` [B, A]; `action` [B, A] is the log's.

        The objective alone (Eq. 10), or `anchored` where action_constraint says so.
        """
        anchored = self.config.action_constraint == "behaviour_anchor"
        return self.anchored(objective, policy, action) if anchored else actor_loss(objective)

    def anchored(self, objective: Tensor, policy: Tensor, action: Tensor) -> Tensor:
        """-lambda objective + (policy - action)^2 with lambda = bc_alpha / mean |objective| over all learners.

        Eq. 5 of TD3+BC (Fujimoto and Gu 2021).
        """
        scale = self.mean_over_learners(objective.detach().abs().mean()).clamp(min=1e-8)
        return (self.config.bc_alpha / scale) * actor_loss(objective) + imitation_loss(policy, action)

    def mean_over_learners(self, value: Tensor) -> Tensor:
        """The mean of a number over all learners: what it would be on the whole batch."""
        if self._learners() > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self._learners()
        return value

    # --- RLlib's contract ---------------------------------------------------------------------------------------------

    def build(self) -> None:
        """As RLlib's, with a place for the shards that are at hand."""
        super().build()
        keep_freed_memory()
        self._shelf = Shelf()

    def configure_optimizers_for_module(self, module_id: str, config: AlgorithmConfig | None = None) -> None:
        """Registers an Adam (the paper's optimizer) for each network."""
        for name, (network, lr) in self._networks(config or self.config).items():
            parameters = list(network.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, lr=lr, fused=True),
                params=parameters,
                lr_or_lr_schedule=lr,
            )

    def reset_learning_rates(self) -> None:
        """Sets the learning rates to the config's: a checkpoint brings those that it was trained with."""
        for name, (_, lr) in self._networks(self.config).items():
            for group in self.get_optimizer(DEFAULT_MODULE_ID, name).param_groups:
                group["lr"] = lr

    def _networks(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        networks = self.networks_to_train(config)
        return {"reward": (self.net.reward, config.reward_lr), **networks} if config.uses_preferences else networks

    def _make_modules_ddp_if_necessary(self) -> None:
        """No DDP: its reducer expects one backward pass a step; a step has one for each network (see `minimise`)."""

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Unused: `_update` minimises losses one after another, because each needs what the one before has made."""
        raise NotImplementedError

    def update(self, *, training_data: Any, timesteps: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Runs the mini-batches of the `LearnerPlan` in `training_data.data_iterators`; returns RLlib's metrics."""
        self._check_is_built()
        begin = time.perf_counter()
        (plan,) = training_data.data_iterators
        self.before_gradient_based_update(timesteps=timesteps or {})
        if plan.refresh_reward_scale:
            self._measure_reward_scale(plan)
        buffer = plan.preferences.load() if plan.preferences is not None else None
        totals: list[dict[str, Tensor]] = []
        self._transitions = plan.transitions
        waited = Stopwatch()
        for index, batch in enumerate(waited.over(plan.transitions.batches(self.device, self._shelf))):
            self.update_index = plan.transitions.first + index
            if plan.preferences is not None:
                batch["preferences"] = (buffer, plan.preferences.rows(index))
            with self.precision():
                totals.append(self._update({DEFAULT_MODULE_ID: batch})[1])
        self.after_gradient_based_update(timesteps=timesteps or {})
        self._log(totals)
        seconds = time.perf_counter() - begin
        for name, value in (("data_wait_share", waited.seconds / seconds), ("learner_seconds", seconds)):
            self.metrics.log_value((DEFAULT_MODULE_ID, "time", name), value, window=1)
        return self.metrics.reduce()

    def _update(self, batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        module_batch = dict(batch[DEFAULT_MODULE_ID])
        preferences = module_batch.pop("preferences", None)
        metrics = self.update_policy(module_batch)
        if preferences is not None:
            metrics |= self._update_reward(*preferences)
        return {}, metrics, {}

    # --- the reward model ---------------------------------------------------------------------------------------------

    def pretrain_reward(self, plan: PreferencePlan, count: int) -> dict[str, float]:
        """`count` mini-batches of preferences (lines 3 to 5); returns the mean loss and accuracy."""
        buffer = plan.load()
        with self.precision():
            totals = [self._update_reward(buffer, plan.rows(index)) for index in range(count)]
        return {name: float(torch.stack([t[name] for t in totals]).mean()) for name in totals[0]}

    def reward_state(self) -> RewardState:
        """The reward model's weights and its Adam's moments, as arrays on the host."""
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID, "reward")
        moments = optimizer.state_dict()["state"]
        return RewardState(
            weights={name: value.cpu().numpy().copy() for name, value in self.net.reward.state_dict().items()},
            moments={i: {k: v.cpu().numpy().copy() for k, v in values.items()} for i, values in moments.items()},
        )

    def set_reward_state(self, state: RewardState) -> None:
        """Puts the reward model and its optimizer where `state` was taken."""
        self.net.reward.load_state_dict({name: torch.tensor(value) for name, value in state.weights.items()})
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID, "reward")
        moments = {i: {k: torch.tensor(v) for k, v in values.items()} for i, values in state.moments.items()}
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})

    def _update_reward(self, buffer: PreferenceBuffer, pairs: Any) -> dict[str, Tensor]:
        """One step on Eq. 4, its gradient accumulated over chunks of pairs."""
        parameters = list(self.net.reward.parameters())
        gradient: list[Tensor] | None = None
        loss_sum, correct, decided = (torch.zeros((), device=self.device) for _ in range(3))
        for start in range(0, len(pairs), PAIRS_PER_CHUNK):
            chunk = pairs[start : start + PAIRS_PER_CHUNK]
            label = torch.from_numpy(buffer.label[chunk]).to(self.device)
            logit = self._preference_logits(buffer, chunk)
            loss = preference_loss(logit, label) * (len(chunk) / len(pairs))
            parts = torch.autograd.grad(loss, parameters)
            if gradient is None:
                gradient = list(parts)
            else:
                torch._foreach_add_(gradient, list(parts))
            with torch.no_grad():
                loss_sum += loss.detach()
                correct += ((logit > 0) == (label > 0.5))[label != 0.5].sum()
                decided += (label != 0.5).sum()
        assert gradient is not None
        self._apply("reward", parameters, gradient)
        return {"losses/reward_loss": loss_sum, "reward/accuracy_train": correct / decided.clamp(min=1)}

    def _preference_logits(self, buffer: PreferenceBuffer, pairs: Any) -> Tensor:
        # A pass for either side: the two gradients of the reward's output bias, which Eq. 3 cancels, are then sums of
        # the same numbers with opposite signs, exactly zero. Adam would make a full step of any rounding that is left.
        steps = np.arange(buffer.length)
        returns = []
        for first in buffer.first[pairs].T:
            rows = buffer.rows(first[:, None] + steps).to(self.device)
            returns.append(self.net.reward(rows).sum(-1))
        return preference_logit(*returns)

    def _measure_reward_scale(self, plan: LearnerPlan) -> None:
        """Sets the standardisation to the mean and deviation of the reward on a fixed sample of training requests."""
        net = self.net
        with torch.no_grad(), self.precision():
            net.reward_mean.zero_()
            net.reward_std.fill_(1.0)
            sample = plan.transitions.sample(SCALE_SAMPLE // self._learners(), self.device, self._shelf)
            reward = net.label(sample).double()
            moments = torch.stack([torch.ones_like(reward), reward, reward.square()]).sum(1)
            if self._learners() > 1:
                dist.all_reduce(moments)
            count, total, squares = moments
            mean = total / count
            net.reward_mean.copy_(mean)
            # A reward that is the same everywhere stays 0 instead of being blown up.
            net.reward_std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())

    def precision(self) -> torch.autocast:
        """The context in which networks are run: matrix products are rounded in it where the config says bf16."""
        # No cache of rounded weights: it would outlive the optimizer's steps inside one update.
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    # --- gradients ----------------------------------------------------------------------------------------------------

    def minimise(self, name: str, network: nn.Module, loss: Tensor) -> None:
        """One step of optimizer `name` on `loss`, with the gradient of `network` alone.

        Other networks that the loss runs through (Q under the actor) get no gradient. With several learners the
        gradient is averaged over them first.
        """
        parameters = list(network.parameters())
        self._apply(name, parameters, list(torch.autograd.grad(loss, parameters)))

    def _apply(self, name: str, parameters: list[nn.Parameter], gradient: list[Tensor]) -> None:
        if self._learners() > 1:
            flat = torch.cat([part.reshape(-1) for part in gradient])
            dist.all_reduce(flat)
            flat /= self._learners()
            sizes = [part.numel() for part in gradient]
            gradient = [part.view_as(p) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        for parameter, part in zip(parameters, gradient, strict=True):
            parameter.grad = part
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID, name)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _learners() -> int:
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def net(self) -> OfflineModule:
        """The module that is trained."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def _log(self, totals: Iterable[dict[str, Tensor]]) -> None:
        """Means over the mini-batches: the device is asked once."""
        values: dict[str, list[Tensor]] = {}
        for row in totals:
            for name, value in row.items():
                values.setdefault(name, []).append(value)
        means = torch.stack([torch.stack(column).mean() for column in values.values()]).tolist()
        for name, value in zip(values, means, strict=True):
            self.metrics.log_value((DEFAULT_MODULE_ID, *name.split("/")), value, window=1)
