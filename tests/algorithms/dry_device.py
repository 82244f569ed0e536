"""One update of every method on a device that computes nothing: `python dry_device.py DATASET`.

A made-up device stands in for a GPU, and its tensors hold no numbers (PyTorch's fake tensors). An update that mixes it
with the processor's tensors, or that asks it for a number or a shape that depends on numbers, which makes a GPU and
its host wait for each other, raises. Run in a process of its own: PyTorch has one such device, for good.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from prefrec_ray.algorithms import SETTINGS, find_method
from prefrec_ray.algorithms.feed.batches import LanePart, TransitionPlan
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.feed.shards import ACTIONS, NEXT_OBS, OBS, REWARDS
from prefrec_ray.algorithms.reward.model import moments, preference_gradient, update_metrics

ROWS, PAIRS, LENGTH = 12, 6, 3


def moved(module: nn.Module, mode: FakeTensorMode, device: torch.device) -> nn.Module:
    """`module` with fake parameters and buffers on `device`: what `to` does, which fakes do not support."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            fake = mode.from_tensor(parameter).detach().to(device)
            part._parameters[name] = nn.Parameter(fake, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else mode.from_tensor(buffer).to(device)
    return module


def learner_of(method: type, config: Any, module: nn.Module, where: torch.device) -> Any:
    """A learner of `method` for networks on `device`, without what RLlib builds around it."""

    class Dry(method.Learner):  # type: ignore[name-defined, misc]
        net = module
        device = where

        def get_optimizer(self, module_id: str, name: str) -> torch.optim.Optimizer:
            return self.optimizers[name]

    learner = object.__new__(Dry)
    learner.config, learner.update_index = config, 1
    learner.optimizers = {
        name: torch.optim.Adam(network.parameters(), lr=lr, fused=True)
        for name, (network, lr) in learner._networks(config).items()
    }
    learner._transitions = TransitionPlan([LanePart(0, [], [], ROWS)], 1, ROWS, 1, 0, 0, 1)
    return learner


def update(learner: Any, device: torch.device) -> None:
    """Transitions, then preferences."""
    net = learner.net
    stored = {OBS: net.state_dim, ACTIONS: net.action_dim, NEXT_OBS: net.state_dim}
    batch = {name: torch.zeros(ROWS, width, device=device) for name, width in stored.items()}
    batch[REWARDS] = torch.zeros(ROWS, device=device)
    with torch.no_grad():
        net.reward.scale_to(moments(net.reward.label(batch)))
    metrics = learner.update_policy(batch)
    assert {value.device.type for value in metrics.values()} == {device.type}
    if not learner.config.settings.uses_preferences:
        return
    width = net.state_dim + net.action_dim
    buffer = PreferenceBuffer(
        np.zeros((40, width), np.float32),
        np.zeros((PAIRS, 2), np.int64),
        np.zeros(PAIRS, np.float32),
        np.ones(PAIRS, bool),
        np.full(PAIRS, "one"),
        LENGTH,
    )
    gradient, sums = preference_gradient(net.reward, buffer, np.arange(PAIRS), PAIRS, device)
    learner._step("reward", list(net.reward.network.parameters()), gradient)
    assert all(value.device.type == device.type for value in update_metrics(sums).values())


def main(dataset: str) -> None:
    """Prints each method after its update."""
    _setup_privateuseone_for_python_backend("dry")
    device = torch.device("dry")
    for name in SETTINGS:
        method = find_method(name)
        config = method.get_default_config().offline_data(input_=dataset)
        config.training(recipe="paper", task="depth", hidden_sizes=(8, 8))
        config.validate()
        spaces = {"observation_space": config.observation_space, "action_space": config.action_space}
        module = method.Module(**spaces, model_config=config.module_settings())
        with FakeTensorMode(allow_non_fake_inputs=False) as mode:
            update(learner_of(method, config, moved(module, mode, device), device), device)
        print(name, flush=True)


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
