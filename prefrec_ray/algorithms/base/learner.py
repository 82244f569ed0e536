"""Learner that every method extends: for each mini-batch it updates the method, then the reward model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

from prefrec_ray.acceleration import Adam, keep_freed_memory, seeded_without_compile, useful_threads
from prefrec_ray.algorithms.base.diagnostics import first_not_finite
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.base.rotation import Rotation
from prefrec_ray.algorithms.feed.batches import Batch, TransitionPlan, ahead, to_device
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer, PreferencePlan
from prefrec_ray.algorithms.feed.shards import ACTIONS, LABELS, OBS, ShardCache
from prefrec_ray.algorithms.losses import actor_loss, td_loss
from prefrec_ray.algorithms.reward.model import (
    RewardState,
    autocast,
    mean_metrics,
    moments,
    preference_gradient,
    update_metrics,
)
from prefrec_ray.ids import Stream
from prefrec_ray.policy.networks.layers import bf16_cost

_LOG = logging.getLogger(__name__)
#: Transitions, over all learners, from which the mean and standard deviation of the reward are computed.
SCALE_SAMPLE = 65_536
#: Group of the metrics of a learner, separate from RLlib's own.
REPORT = (DEFAULT_MODULE_ID, "report")


class OfflineLearner(TorchLearner):
    """A method implements `networks_to_train` and `update_policy`; a step has the order of Algorithm 1."""

    #: Networks of the module that the method trains, with the setting of each one's learning rate.
    rates: ClassVar[dict[str, str]] = {"q": "critic_lr", "actor": "actor_lr"}

    def __init__(self, **kwargs: Any) -> None:
        with seeded_without_compile():
            super().__init__(**kwargs)

    def networks_to_train(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        """Return network and learning rate of each optimizer, by name; the default is `rates`."""
        return {name: (getattr(self.net, name), getattr(config, rate)) for name, rate in self.rates.items()}

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update all networks except for the reward model once. Returns detached scalars by metric name."""
        raise NotImplementedError

    def noise(self, width: int, draw: int = 0) -> Tensor:
        """Return standard normal noise [B, width] for this mini-batch; each `draw` of a step is independent."""
        stream = draw if draw < Stream.ROTATED else draw + 2  # not the streams of the rotation
        numbers = self._transitions.drawn(
            self.update_index, stream, lambda rng, rows: rng.standard_normal((rows, width), dtype=np.float32)
        )
        return to_device(torch.from_numpy(numbers), self.device)

    def update_q(self, batch: dict[str, Tensor], reward: Tensor, next_value: Tensor) -> dict[str, Tensor]:
        """Make one step on Eq. 6, summed over the critics, with `reward` and `next_value` [B]; return its metrics."""
        qs = [q(batch[OBS], batch[ACTIONS]) for q in self.net.critics]
        loss = torch.stack([td_loss(q, reward, next_value, self.config.gamma) for q in qs]).sum()
        self.minimise("q", self.net.q, loss)
        return {
            "losses/qf_loss": loss.detach(),
            "values/reward_mean": reward.mean(),
            "values/q_mean": qs[0].detach().mean(),
        }

    def update_deterministic_actor(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one step on `policy_gradient_loss` with the first critic; return its metric."""
        policy = self.net.actor(batch[OBS])
        q = self.net.critics[0](batch[OBS], policy)
        return self.update_actor(self.policy_gradient_loss(q, policy, batch[ACTIONS]))

    def update_actor(self, loss: Tensor) -> dict[str, Tensor]:
        """Make one step of the actor on `loss`; return it as a metric."""
        self.minimise("actor", self.net.actor, loss)
        return {"losses/actor_loss": loss.detach()}

    def policy_gradient_loss(self, q: Tensor, policy: Tensor, action: Tensor) -> Tensor:
        """Return the loss of an actor that maximizes `q` [B] by its actions `policy` [B, A]: -Q (Eq. 10).

        `action` [B, A] is logged, for methods with a constraint to the data.
        """
        return actor_loss(q)

    def mean_over_learners(self, value: Tensor) -> Tensor:
        """Return the mean over the whole batch, from a mean over this learner's rows."""
        (total,) = self._sum_over_learners([value * self._share()])
        return total

    # --- RLlib's contract ---------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Build like RLlib, and create the data feed."""
        super().build()
        keep_freed_memory()
        self._shards = ShardCache()
        self._rotation = Rotation.from_settings(self.net.model_config, self.device)
        if self.config.precision == "bf16" and self.device.type == "cpu" and (cost := bf16_cost()) > 1:
            _LOG.warning("precision bf16: a matrix product takes %.2g times as long as in float32 here", cost)

    def configure_optimizers_for_module(self, module_id: str, config: AlgorithmConfig | None = None) -> None:
        """Register an Adam (the paper's optimizer) for each network."""
        for name, (network, lr) in self._networks(config or self.config).items():
            parameters = list(network.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=Adam(parameters, lr=lr),
                params=parameters,
                lr_or_lr_schedule=lr,
            )

    def reset_learning_rates(self) -> None:
        """Set the learning rates of the config, because a checkpoint restores the rates of its run."""
        for name, (_, lr) in self._networks(self.config).items():
            for group in self.get_optimizer(DEFAULT_MODULE_ID, name).param_groups:
                group["lr"] = lr

    def _networks(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        networks = self.networks_to_train(config)
        if not config.settings.uses_preferences:
            return networks
        return {"reward": (self.net.reward.network, config.reward_lr), **networks}

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Unused: `update_policy` minimises the losses one by one, since each loss needs the networks just updated."""
        raise NotImplementedError

    def update(self, *, training_data: Any, timesteps: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Run the mini-batches of the `LearnerPlan` in `training_data.data_iterators`; return RLlib's metrics."""
        begin = time.perf_counter()
        (plan,) = training_data.data_iterators
        self.before_gradient_based_update(timesteps=timesteps or {})
        if plan.refresh_reward_scale:
            self._measure_reward_scale(plan.transitions)
        buffer = plan.preferences.load() if plan.preferences is not None else None
        totals: list[dict[str, Tensor]] = []
        self._transitions = plan.transitions
        batches, waited = self.batches(plan.transitions), 0.0
        for index in range(plan.transitions.count):
            start = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - start
            self.update_index = plan.transitions.first + index
            with self.precision():
                with useful_threads(len(batch[OBS]), self.config.hidden_sizes):
                    metrics = self.update_policy(self._rotated(batch))
                if buffer is not None:
                    metrics |= self._update_reward(buffer, plan.preferences, index)
            totals.append(metrics)
        self.after_gradient_based_update(timesteps=timesteps or {})
        self._log(totals)
        seconds = time.perf_counter() - begin
        for name, value in (("data_wait_share", waited / seconds), ("learner_seconds", seconds)):
            self.metrics.log_value((*REPORT, "time", name), value, window=1)
        return self.metrics.reduce()

    def batches(self, plan: TransitionPlan) -> Iterator[Batch]:
        """Yield the mini-batches of `plan`, on a GPU one ahead."""
        batches = plan.batches(self.device, self._shards)
        return ahead(batches, self.device) if self.device.type == "cuda" else batches

    def _rotated(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch with some transitions rotated. All keep the reward of the logged transition."""
        if self._rotation is None:
            return batch
        with torch.no_grad():
            labelled = {**batch, LABELS: self.net.reward.label(batch)}
            with torch.autocast(self.device.type, enabled=False):  # data stay float32 in any precision
                return self._rotation.of_batch(labelled, self._transitions, self.update_index)

    # --- the reward model ---------------------------------------------------------------------------------------------

    def pretrain_reward(self, plans: Sequence[PreferencePlan], count: int) -> dict[str, float]:
        """Train on `count` mini-batches of preferences (lines 3 to 5); return the mean loss and accuracy.

        `plans` has one plan per learner.
        """
        plan = plans[dist.get_rank() if self._learners() > 1 else 0]
        buffer = plan.load()
        with self.precision():
            totals = [self._update_reward(buffer, plan, index) for index in range(count)]
        return {name: float(value) for name, value in mean_metrics(totals).items()}

    def set_reward_state(self, state: RewardState) -> None:
        """Restore the reward model and its optimizer from `state`."""
        state.put(self.net.reward.network, self.get_optimizer(DEFAULT_MODULE_ID, "reward"))

    def _update_reward(self, buffer: PreferenceBuffer, plan: PreferencePlan, index: int) -> dict[str, Tensor]:
        """Make one step on Eq. 4, with this learner's part of mini-batch `index` of the plan."""
        reward, pairs = self.net.reward, plan.rows(index)
        gradient, sums = preference_gradient(reward, buffer, pairs, plan.size, self.device)
        # Parts may differ in size, and one may be empty: each is weighted by its share of the mini-batch, then summed.
        *gradient, sums = self._sum_over_learners([*gradient, sums])
        self._step("reward", list(reward.network.parameters()), gradient)
        return update_metrics(sums)

    def _measure_reward_scale(self, transitions: TransitionPlan) -> None:
        """Set mean and standard deviation of the reward from a fixed sample of training transitions."""
        reward = self.net.reward
        with torch.no_grad(), self.precision():
            reward.unscale()
            sample = transitions.sample(SCALE_SAMPLE, self.device, self._shards)
            (total,) = self._sum_over_learners([moments(reward.label(sample))])
            reward.scale_to(total)

    def precision(self) -> torch.autocast:
        """Return the autocast context of forward passes."""
        return autocast(self.device.type, self.config.precision)

    # --- gradients ----------------------------------------------------------------------------------------------------

    def minimise(self, name: str, network: nn.Module, loss: Tensor) -> None:
        """Take one step of optimizer `name` on `loss`, with the gradient of `network` only.

        Other networks in the loss (Q in the actor's loss) get no gradient. `loss` is a mean over this learner's rows.
        The gradient belongs to the mean over the rows of all learners, which may have different numbers of rows.
        """
        parameters = list(network.parameters())
        gradient = list(torch.autograd.grad(loss, parameters))
        if self._learners() > 1:
            torch._foreach_mul_(gradient, self._share())
        self._step(name, parameters, self._sum_over_learners(gradient))

    def _share(self) -> float:
        """Return this learner's share of the rows of a batch."""
        if self._learners() == 1:
            return 1.0
        return self._transitions.own_rows / self._transitions.batch_size

    def _step(self, name: str, parameters: list[nn.Parameter], gradient: list[Tensor]) -> None:
        for parameter, part in zip(parameters, gradient, strict=True):
            parameter.grad = part
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID, name)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _sum_over_learners(self, parts: list[Tensor]) -> list[Tensor]:
        """Return the sums of `parts` over all learners, by one all-reduce; a single learner gets its `parts` back."""
        if self._learners() == 1:
            return parts
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        return [total.view_as(part) for total, part in zip(flat.split([p.numel() for p in parts]), parts, strict=True)]

    @staticmethod
    def _learners() -> int:
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def net(self) -> OfflineModule:
        """Return the module under training."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def _log(self, totals: Sequence[dict[str, Tensor]]) -> None:
        """Log means over the mini-batches, weighted by the learner's share, as RLlib takes the mean over learners."""
        values = mean_metrics(totals)
        means = torch.stack(list(values.values())).tolist()
        weight = self._share() * self._learners()
        for name, value in zip(values, means, strict=True):
            self.metrics.log_value((*REPORT, *name.split("/")), weight * value, window=1)
        if not np.isfinite(means).all() and (first := first_not_finite(totals)):
            self.metrics.log_value((*REPORT, "diverged", first[0]), first[1], window=1)
