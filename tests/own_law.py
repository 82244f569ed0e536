"""A law of a user, as the text of a file."""

#: Users like items of their own color. A session has three impressions, and the next one starts after one hour if the
#: last item had this color, otherwise after one day.
LAW = """
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from prefrec_ray.simulator.law import Response
from prefrec_ray.simulator.servers import RandomItems

COLORS = np.array(["red", "green", "blue"], dtype=object)


class Colors:
    feedback = ("like",)
    categories = {"color": tuple(COLORS)}
    controls = {"best known": lambda crowd: 1.0 - (crowd.world.color == crowd.color[:, None])}

    def __init__(self, settings):
        self.settings = settings
        self.color = np.arange(settings.items) % 3

    def items(self):
        return pa.table({"item_id": np.arange(self.settings.items), "color": COLORS[self.color]})

    def crowd(self, users, rng):
        return Users(self, users)

    def logging_policy(self, crowd, rng):
        return RandomItems(self.settings.items, rng)


class Users:
    def __init__(self, world, users):
        self.world, self.color, self.step = world, users % 3, 0
        self.features = {"color": COLORS[self.color]}
        self.requests = np.full(len(users), world.settings.requests)
        self.time_ms = 1_704_067_200_000 + 1000 * users
        self.gone = np.zeros(len(users), bool)

    def excluded(self):
        return None

    def show(self, rows):
        likes = self.world.color[rows] == self.color
        self.step += 1
        leaves = np.full(len(rows), self.step % 3 == 0)
        gap = np.where(leaves, np.where(likes, 3_600_000, 86_400_000), 10_000)
        self.time_ms = self.time_ms + gap
        return Response(likes[:, None].astype(np.float32), likes.astype(np.float32), leaves)
"""
