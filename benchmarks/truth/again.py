"""True levels of logged users, whoever serves them: of their logged items shown again among others.

The gains of the estimator `model` are over the logged items shown again. The logging policy of the simulator draws its
exposure anew when it is rolled out: where a log's exposure never changes, that gives every user another exposure than
the log's, and a level of its own against what the user had in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prefrec_ray.dataset import PreparedDataset, floats
from prefrec_ray.evaluation.online import world_settings
from prefrec_ray.settings import Split
from prefrec_ray.simulator.law import ROLLOUT, Choice, CrowdServer, SimulatedCrowd, SimulatedWorld, generator
from prefrec_ray.simulator.rollout import outcome, roll_out
from prefrec_ray.simulator.servers import IgnoresFeedback
from prefrec_ray.simulator.world import load_world
from prefrec_ray.users.histories import read_sessions

REQUESTS = 250


class LoggedItems(IgnoresFeedback):
    """Serves each user the user's `items` (rows of the world) in their order, again from the start at the end."""

    def __init__(self, items: list[np.ndarray]) -> None:
        self.length = np.array([len(own) for own in items])
        self.start, self.items, self.step = np.cumsum(self.length) - self.length, np.concatenate(items), 0

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        rows = self.items[self.start + self.step % self.length]
        self.step += 1
        return Choice(rows, 1.0)


@dataclass(frozen=True)
class LoggedUsers:
    """Users of a split [n]: their `numbers` in the world, ascending; their `items` and means in the log."""

    world: SimulatedWorld
    numbers: np.ndarray
    items: list[np.ndarray]
    mean_depth: np.ndarray
    mean_revisit_ms: np.ndarray  # NaN: none
    weight: float  # of depth in the mixture

    @classmethod
    def from_dataset(cls, dataset: PreparedDataset, split: Split = "test") -> LoggedUsers:
        """All of a data set made by the simulator."""
        files = dataset.files("requests", split)
        logged = pa.concat_tables([dataset.read(file, ["user_id", "timestamp", "item_id"]) for file in files])
        logged = logged.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
        numbers, first = np.unique(logged["user_id"].to_numpy(), return_index=True)
        sessions = pa.concat_tables([read_sessions(dataset, file, split) for file in files])
        means = sessions.group_by("user_id").aggregate([("depth", "mean"), ("revisit_ms", "mean")]).sort_by("user_id")
        return cls(
            load_world(world_settings(dataset)),
            numbers,
            np.split(logged["item_id"].to_numpy(), first[1:]),
            means["depth_mean"].to_numpy(),
            floats(means["revisit_ms_mean"]),
            dataset.metadata.mixture_weight,
        )

    def levels(self, make: Callable[[SimulatedCrowd], CrowdServer]) -> dict[str, np.ndarray]:
        """By task the mean level [n] of each user against the log's means; the same noise of users, whoever serves."""
        crowd = self.world.crowd(self.numbers, generator(self.world.settings.seed, ROLLOUT, 0, 0))
        history = roll_out(crowd, make(crowd), REQUESTS)
        return outcome(history, self.mean_depth, self.mean_revisit_ms, self.weight).levels

    def levels_again(self) -> dict[str, np.ndarray]:
        """Those under the logged items."""
        return self.levels(lambda crowd: LoggedItems(self.items))
