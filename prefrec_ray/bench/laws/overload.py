"""Momentum and choice overload within a session.

Item i has one of 24 genres g. User u likes genre g by a_ug, a standard normal number. k is the number of different
genres in the session so far, and m the number of its items of this genre, both with the shown item. With this item

    x = a_ug - 0.8 max(k - 3, 0) - 0.6 max(m - 3, 0),
    ease <- 0.85 ease + 0.15 x,    satisfaction = sigmoid(1.5 ease).

The log-odds that the session continues are larger by 0.6 if the genre is that of the item before. Source: S. S.
Iyengar and M. R. Lepper (2000), "When Choice is Demotivating: Can One Desire Too Much of a Good Thing?". A policy
has to find the genres of a user, and to keep to few of them in one session, but not to one; a new session starts
with no load. Items have one category, the genre, and no embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

GENRES, FREE = 24, 3


class Overload(LawPlatform):
    """Items of 24 genres, and users who like some of them. State: ease, the items of this session by genre, and the
    last genre (-1: none).
    """

    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.genre = rng.integers(0, GENRES, count)
        self.kinds = {"genre": self.genre}
        self.appeal = rng.standard_normal(GENRES)[self.genre]

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"liking": rng.standard_normal((count, GENRES))}

    def begin(self, crowd: Users) -> None:
        crowd.ease = np.zeros(len(crowd.everyone))
        crowd.met = np.zeros((len(crowd.everyone), GENRES), dtype=np.int64)
        crowd.last = np.full(len(crowd.everyone), -1)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        genre = self.genre[rows]
        liking = crowd.traits["liking"][crowd.everyone, genre]
        crowd.met[crowd.everyone, genre] += 1
        load = np.maximum((crowd.met > 0).sum(axis=1) - FREE, 0)
        more = np.maximum(crowd.met[crowd.everyone, genre] - FREE, 0)
        crowd.ease = 0.85 * crowd.ease + 0.15 * (liking - 0.8 * load - 0.6 * more)
        satisfaction = sigmoid(1.5 * crowd.ease)
        stay = -0.2 + 3.4 * satisfaction + 0.6 * (genre == crowd.last)
        crowd.last = genre
        return Reaction(satisfaction, click=-1.0 + liking, like=-2.5 + liking, watch=-0.5 + 0.2 * liking, stay=stay)

    def ends(self, crowd: Users, leaves: np.ndarray) -> None:
        crowd.met[leaves] = 0
        crowd.last[leaves] = -1

    def cost(self, crowd: Users) -> np.ndarray:
        met = crowd.met > 0
        # A further genre is a load on all later items of the session.
        load = np.maximum(met.sum(axis=1)[:, None] + ~met - FREE, 0)
        more = np.maximum(crowd.met + 1 - FREE, 0)
        return -(crowd.traits["liking"] - 1.6 * load - 0.6 * more)[:, self.genre]
