"""The true level of users who are shown their logged items again: what the gains of the estimator `model` are over.

The logging policy of the simulator draws its exposure anew when it is rolled out. Where a log's exposure never changes,
that gives every user another exposure than the log's, and a level of its own against what the user had in the log.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import world_settings
from prefrec_ray.evaluation.sessions import read_sessions
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.outcome import outcome
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.servers import Choice, IgnoresFeedback
from prefrec_ray.simulator.world import ROLLOUT, World, generator
from prefrec_ray.terms import Split


class LoggedItems(IgnoresFeedback):
    """Serves each user the user's `items` (rows of the world) in their order, again from the start at the end."""

    def __init__(self, items: list[np.ndarray]) -> None:
        self.length = np.array([len(own) for own in items])
        self.start, self.items, self.step = np.cumsum(self.length) - self.length, np.concatenate(items), 0

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        rows = self.items[self.start + self.step % self.length]
        self.step += 1
        return Choice(rows, 1.0)


def levels_again(
    dataset: PreparedDataset, split: Split = "test", requests: int = 250, seed: int = 0
) -> dict[str, float]:
    """By task the mean level of the users of the split, against their means in the log, with fresh noise."""
    settings = world_settings(dataset)
    files = dataset.files("requests", split)
    logged = pa.concat_tables([dataset.read(file, ["user_id", "timestamp", "item_id"]) for file in files])
    logged = logged.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    users, first = np.unique(logged["user_id"].to_numpy(), return_index=True)
    items = np.split(logged["item_id"].to_numpy(), first[1:])
    sessions = pa.concat_tables([read_sessions(dataset, file, split) for file in files])
    means = sessions.group_by("user_id").aggregate([("depth", "mean"), ("revisit_ms", "mean")]).sort_by("user_id")
    world = World(settings)
    crowd = Crowd(world, world.traits(users), generator(settings.seed, ROLLOUT, 0, 0))
    history = roll_out(crowd, LoggedItems(items), requests)
    away = means["revisit_ms_mean"].cast(pa.float64()).fill_null(np.nan).to_numpy()
    found = outcome(history, means["depth_mean"].to_numpy(), away, dataset.metadata.mixture_weight)
    return {task: float(np.nanmean(level)) for task, level in found.levels.items()}
