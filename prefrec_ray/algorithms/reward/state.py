"""The pre-trained reward model, made once for all runs whose pre-training is the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from prefrec_ray.algorithms.base.config import OfflineConfig

#: All that the weights of a pre-trained reward depend on, beside the data set.
REWARD_KEYS = (
    "task",
    "seed",
    "pairing",
    "scoring",
    "teachers",
    "reward_input",
    "reward_leave_out",
    "precision",
    "reward_lr",
    "preference_batch_size",
    "pretrain_epochs",
    "hidden_sizes",
)


@dataclass(frozen=True)
class RewardState:
    """Weights of a reward model by name, and the moments of its Adam by parameter number."""

    weights: dict[str, np.ndarray]
    moments: dict[int, dict[str, np.ndarray]]


def reward_key(config: OfflineConfig) -> tuple[Hashable, ...] | None:
    """Equal for two configs exactly where their pre-training is the same; None where there is none."""
    if not config.uses_preferences or not config.pretrain_epochs > 0:
        return None
    values = (getattr(config, name) for name in REWARD_KEYS)
    return (str(config.input_), *(tuple(value) if isinstance(value, list | tuple) else value for value in values))


def pretrain(config: OfflineConfig) -> RewardState:
    """Runs the pre-training of `config` (a method with a reward) and no more."""
    algorithm = config.build_algo()
    try:
        while algorithm.offline_data.schedule.at(algorithm.iteration).phase == "pretrain":
            algorithm.train()
        return algorithm.reward_state()
    finally:
        algorithm.stop()
