"""bf16: rounded matrix products under float32 weights, sums and heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from tiny import learner_of

from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.preferences import load_buffer
from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks import layers
from prefrec_ray.policy.networks.layers import Head, Scalar

SETTINGS: dict[str, Any] = {
    "recipe": "paper",
    "task": "depth",
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "hidden_sizes": (32, 32),
    "updates_per_iteration": 20,
    "pretrain_epochs": 1,
    "num_epochs": 2,
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "value_lr": 1e-3,
    "reward_lr": 1e-3,
    "rotations": 0.5,
}


def test_a_head_is_float32_in_any_precision() -> None:
    head, hidden = Head(256, 1), torch.rand(1000, 256)
    exact = torch.nn.functional.linear(hidden, head.weight, head.bias)
    with torch.autocast("cpu", torch.bfloat16):
        output = head(hidden.to(torch.bfloat16))
    assert output.dtype == torch.float32
    # Its inputs were rounded (8 bits); nothing else is.
    rounded = torch.nn.functional.linear(hidden.to(torch.bfloat16).float(), head.weight, head.bias)
    torch.testing.assert_close(output, rounded, rtol=0, atol=0)
    assert (output - exact).abs().max() < 2**-8 * (head.weight.abs() @ hidden.T).max()


def test_rounding_is_of_products_alone() -> None:
    network, inputs = Scalar(40, (64, 64)), torch.randn(500, 40)
    exact = network(inputs)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rounded = network(inputs)
        (gradient,) = torch.autograd.grad(rounded.square().mean(), [network.net[0].weight])
    assert rounded.dtype == gradient.dtype == torch.float32
    error = (rounded - exact).abs().max()
    assert 0 < error < 0.02 * exact.abs().max()


def train(dataset: str, precision: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights after a pass over the preferences and 20 updates, and the losses of these."""
    config = PrefRecConfig().offline_data(input_=dataset).training(**SETTINGS, precision=precision)
    algorithm = config.build_algo()
    try:
        algorithm.train()
        result = algorithm.train()
        state = learner_of(algorithm).module[DEFAULT_MODULE_ID].unwrapped().state_dict()
        return {name: value.clone() for name, value in state.items()}, dict(result["losses"])
    finally:
        algorithm.stop()


def test_training_rounds_and_keeps_float32_weights(tiny_dataset: str) -> None:
    exact, exact_losses = train(tiny_dataset, "float32")
    rounded, losses = train(tiny_dataset, "bf16")
    again, _ = train(tiny_dataset, "bf16")
    for name, value in rounded.items():
        if value.is_floating_point():
            assert value.dtype == torch.float32
        assert torch.equal(value, again[name]), "not the same a second time"
    assert not torch.equal(rounded["q.net.0.weight"], exact["q.net.0.weight"])
    torch.testing.assert_close(rounded["q.net.0.weight"], exact["q.net.0.weight"], rtol=0, atol=5e-3)
    for name, value in exact_losses.items():
        assert losses[name] == pytest.approx(value, rel=0.05, abs=0.01)


def test_preferences_are_held_as_autocast_rounds_them(tiny_dataset: str) -> None:
    exact, rounded = (
        load_buffer(tiny_dataset, "depth", "train", ["within_user_sum"], None, precision)
        for precision in ("float32", "bf16")
    )
    index = exact.first[:5, :, None] + np.arange(exact.length)
    assert rounded.rows(index).dtype == torch.bfloat16
    assert torch.equal(rounded.rows(index), exact.rows(index).to(torch.bfloat16))
    assert rounded.inputs.nbytes * 2 == exact.inputs.nbytes
    network = Scalar(exact.inputs.shape[1], (32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(rounded.rows(index)), network(exact.rows(index)))


@pytest.mark.parametrize(("cost", "warned"), [(21.6, True), (0.5, False)])
def test_a_processor_without_bf16_is_named(
    tiny_dataset: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cost: float, warned: bool
) -> None:
    """The cost is the best of three products in each precision."""
    layers.bf16_cost.cache_clear()
    clock = iter([0.0, 3 * cost, 0.0, 2 * cost, 0.0, 5 * cost, 0.0, 2.0, 0.0, 9.0, 0.0, 4.0])
    with monkeypatch.context() as timed:
        timed.setattr(layers, "perf_counter", lambda: next(clock))
        assert layers.bf16_cost() == pytest.approx(cost)
    PrefRecConfig().offline_data(input_=tiny_dataset).training(**SETTINGS, precision="bf16").build_algo().stop()
    found = [line for line in caplog.messages if "precision bf16" in line]
    assert found == (["precision bf16: a matrix product takes 22 times as long as in float32 here"] if warned else [])
    layers.bf16_cost.cache_clear()


def test_an_unknown_precision_is_one_line(tiny_dataset: str) -> None:
    config = PrefRecConfig().offline_data(input_=tiny_dataset).training(precision="half")
    with pytest.raises(UserError, match="key 'precision': expected 'float32' or 'bf16', found 'half'"):
        config.validate()
