"""Which loss went first, and the line that says so."""

from __future__ import annotations

import math

import pytest
import torch

from prefrec_ray.algorithms.base.divergence import first_not_finite, stop_if_diverged
from prefrec_ray.errors import UserError


def test_the_first_in_time_and_then_in_the_order_of_an_update() -> None:
    nan, inf = math.nan, math.inf
    columns = {
        "losses/value_loss": [1.0, 1.0, 1.0, nan],
        "values/q_mean": [nan, nan, nan, nan],
        "losses/qf_loss": [1.0, 1.0, inf, nan],
        "losses/actor_loss": [1.0, 1.0, nan, nan],
    }
    metrics = {name: [torch.tensor(value) for value in column] for name, column in columns.items()}
    assert first_not_finite(metrics) == ("qf_loss", 2)
    assert first_not_finite({"losses/a": [torch.zeros(())], "values/q": metrics["values/q_mean"]}) is None


def test_the_line() -> None:
    losses = {"losses/actor_loss": math.nan, "losses/qf_loss": math.inf, "losses/value_loss": 1.0, "values/q": math.nan}
    with pytest.raises(UserError, match=r"^iteration 7: losses/qf_loss is inf, the first to go: training has diverged"):
        stop_if_diverged({**losses, "diverged/actor_loss": 12.0, "diverged/qf_loss": 11.0}, 7)
    with pytest.raises(UserError, match=r"^iteration 1: losses/reward_loss is nan"):
        stop_if_diverged({"losses/reward_loss": math.nan}, 1)
    stop_if_diverged({"losses/qf_loss": 3.0, "values/q": math.nan}, 1)
