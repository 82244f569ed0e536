"""A platform on which each user likes one genre.

A session ends with probability LEAVE after each item. The next session starts after an hour if the user liked the last
item, else after a day.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from prefrec_ray.simulator.law import EPOCH_MS, Response
from prefrec_ray.simulator.servers import RandomItems
from prefrec_ray.simulator.settings import SimulateSettings

GENRES = np.array(["comedy", "drama", "horror"], dtype=object)
LEAVE = 0.3
PAUSE_MS, HOUR_MS, DAY_MS = 10_000, 3_600_000, 86_400_000


class Genres:
    """Items and users of the platform (`SimulatedWorld`)."""

    feedback = ("like",)
    categories: ClassVar = {"favorite": tuple(GENRES)}
    controls: ClassVar = {"best known": lambda crowd: 1.0 - crowd.likes(np.arange(len(crowd.world.genre)))}

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        self.genre = np.arange(settings.items) % len(GENRES)

    def items(self) -> pa.Table:
        """Return item_id and genre."""
        return pa.table({"item_id": np.arange(len(self.genre)), "genre": GENRES[self.genre]})

    def crowd(self, users: np.ndarray, rng: np.random.Generator) -> "Users":
        """Return `users` (numbers [n]) before their first impressions."""
        return Users(self, users, rng)

    def logging_policy(self, crowd: "Users", rng: np.random.Generator) -> RandomItems:
        """Return the policy that writes the log: random items."""
        return RandomItems(len(self.genre), rng)


class Users:
    """State of n users, who advance in lock-step (`SimulatedCrowd`)."""

    def __init__(self, world: Genres, users: np.ndarray, rng: np.random.Generator) -> None:
        self.world, self.favorite, self.rng = world, users % len(GENRES), rng
        self.features = {"favorite": GENRES[self.favorite]}
        self.requests = np.full(len(users), world.settings.requests)
        self.time_ms = EPOCH_MS + 1000 * users
        self.gone = np.zeros(len(users), dtype=bool)

    def likes(self, rows: np.ndarray) -> np.ndarray:
        """Return which of the items `rows` [k] each user likes, bool [n, k]."""
        return self.world.genre[rows] == self.favorite[:, None]

    def excluded(self) -> None:
        """Exclude no item."""

    def show(self, rows: np.ndarray) -> Response:
        """Show each user the item in row `rows` [n], and advance to the next impression."""
        liked = self.world.genre[rows] == self.favorite
        leaves = self.rng.random(len(rows)) < LEAVE
        self.time_ms = self.time_ms + np.where(leaves, np.where(liked, HOUR_MS, DAY_MS), PAUSE_MS)
        return Response(liked[:, None].astype(np.float32), liked.astype(np.float32), leaves)
