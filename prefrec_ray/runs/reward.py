"""The reward model that a run has learned, read from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.runs.export import load_module
from prefrec_ray.storage.manifest import MANIFEST


@dataclass(frozen=True, eq=False)
class TrainedReward:
    """A trained reward model: its network, and the columns of the next state that it sees (None: state and action)."""

    net: nn.Module  # [..., D] -> [...]
    columns: tuple[int, ...] | None


def load_reward(uri: str) -> TrainedReward:
    """The reward model of a run (its last checkpoint) or of one checkpoint. Raises `UserError` where there is none."""
    if storage.exists(storage.join(uri, MANIFEST)):
        module = load_module(uri)
    else:
        with first_whole(reversed(checkpoints(uri))) as newest:
            if newest is None:
                raise UserError(
                    f"{uri}: neither a run with a checkpoint nor a checkpoint; expected one of `prefrec train`"
                )
            module = load_module(newest[1])
    if module.model_config["reward_source"] == "column":
        raise UserError(f"{uri}: was trained on the log's own reward; expected a run that learned one from preferences")
    columns = module.model_config["reward_columns"]
    return TrainedReward(module.reward.network.cpu(), None if columns is None else tuple(columns))
