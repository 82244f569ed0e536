"""The first loss that diverges, and its message."""

from __future__ import annotations

import math

import pytest
import torch

from prefrec_ray.algorithms.base.diagnostics import first_not_finite, reported, stop_if_diverged
from prefrec_ray.errors import UserError


def test_the_first_in_time_and_then_in_the_order_of_an_update() -> None:
    def update(**losses: float) -> dict[str, torch.Tensor]:
        return {"values/q_mean": torch.tensor(math.nan)} | {
            f"losses/{name}": torch.tensor(value) for name, value in losses.items()
        }

    # The actor is updated every second time: its losses are fewer.
    sound = [update(qf_loss=1.0), update(qf_loss=1.0, actor_loss=1.0)]
    assert first_not_finite(sound) is None
    assert first_not_finite([*sound, update(qf_loss=math.inf), update(qf_loss=1.0, actor_loss=math.nan)]) == (
        "qf_loss",
        2,
    )
    assert first_not_finite([*sound, update(qf_loss=1.0, actor_loss=math.nan)]) == ("actor_loss", 2)
    assert first_not_finite([update(qf_loss=math.nan, actor_loss=math.nan)]) == ("qf_loss", 0)


def test_the_line() -> None:
    losses = {"losses/actor_loss": math.nan, "losses/qf_loss": math.inf, "losses/value_loss": 1.0, "values/q": math.nan}
    with pytest.raises(UserError, match=r"^iteration 7: losses/qf_loss: found inf first; expected finite losses"):
        stop_if_diverged({**losses, "diverged/actor_loss": 12.0, "diverged/qf_loss": 11.0}, 7)
    with pytest.raises(UserError, match=r"^iteration 1: losses/reward_loss: found nan"):
        stop_if_diverged({"losses/reward_loss": math.nan}, 1)
    stop_if_diverged({"losses/qf_loss": 3.0, "values/q": math.nan}, 1)


def test_a_metric_that_the_last_iteration_lacks_is_not_a_diverged_loss() -> None:
    metrics = {"losses/qf_loss": 1.0, "losses/actor_loss": math.nan, "diverged/qf_loss": math.nan}
    assert reported(metrics) == {"losses/qf_loss": 1.0}
    assert "losses/actor_loss" in reported({**metrics, "diverged/actor_loss": 3.0})
