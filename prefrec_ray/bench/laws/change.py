"""Laws in which the good items change: with tastes, other users, the hour or the platform."""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import HOUR_MS, Platform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid
from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS

WINDOW = 20  # contagion
REGIMES, DAYS, PERIODS = 3, 5, 2_000  # regimes


class Bubble(Platform):
    """Preferences that drift towards what is shown.

    User u has a taste t, a unit vector, and item i the direction e_i, its embedding scaled to length 1. a = e_i . t is
    the affinity. The supply s_i = 0.3 + 1.2 max(e_i . g, 0)^4 is good near one hidden direction g. With the shown item

        mood <- 0.9 mood + a |a| s_i,    satisfaction = sigmoid(0.25 mood),
        t <- (t + 0.15 a e_i) / |t + 0.15 a e_i|,

    and a click has the log-odds 2 a - 1. Sources: R. Jiang et al. (2019), "Degenerate Feedback Loops in Recommender
    Systems"; S. Dean and J. Morgenstern (2022), "Preference Dynamics Under Personalized Recommendations". A policy has
    to lead tastes step by step to the good supply, through items near the present taste, instead of serving the taste.

    Items with embeddings, uniform in [-1, 1]^8, and users with tastes in all directions. State: mood and taste.
    """

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.units = self.embeddings / np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        directions = rng.standard_normal((2, 8))
        self.along, self.appeal = directions / np.linalg.norm(directions, axis=1, keepdims=True) @ self.units.T
        self.supply = 0.3 + 1.2 * np.maximum(self.along, 0.0) ** 4

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        taste = rng.standard_normal((count, 8))
        return {"taste": taste / np.linalg.norm(taste, axis=1, keepdims=True)}

    def begin(self, crowd: Users) -> None:
        crowd.taste = crowd.traits["taste"].copy()

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        item = self.units[rows]
        affinity = (item * crowd.taste).sum(axis=1)
        effect = affinity * np.abs(affinity) * self.supply[rows]
        crowd.mood = 0.9 * crowd.mood + effect
        moved = crowd.taste + 0.15 * affinity[:, None] * item
        crowd.taste = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return Reaction(
            sigmoid(0.25 * crowd.mood), click=2.0 * affinity - 1.0, like=2.0 * effect - 2.0, watch=-0.5 + 0.3 * affinity
        )

    def cost(self, crowd: Users) -> np.ndarray:
        affinity = crowd.taste @ self.units.T
        # Movement towards the good supply pays at all later impressions.
        return -affinity * (np.abs(affinity) * self.supply + self.along)


class Contagion(Platform):
    """Popularity that spreads between users.

    P_i is the popularity of item i among the users who are simulated together: at every step P <- 0.97 P, plus the
    share of these users who like the item. q_i is its quality, a standard normal number. With the shown item

        x = 0.4 q_i + 0.5 log(1 + 40 P_i) - 4 [i among the user's last 20 items],    mood <- 0.9 mood + x - 1,
        satisfaction = sigmoid(0.25 mood),

    and a like has the log-odds x - 1. Source: M. J. Salganik, P. S. Dodds and D. J. Watts (2006), "Experimental Study
    of Inequality and Unpredictability in an Artificial Cultural Market". A policy has to show all users the same
    rotating set of hits: their value comes from other users, and the log of one user does not contain it.

    Items with embeddings, uniform in [-1, 1]^8. State: mood and the last 20 items (-1: none) of each user, and the
    popularity of items.
    """

    strength = (0.0, 4.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.quality = rng.standard_normal(count)
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0 + 0.5 * rng.standard_normal(count)

    def begin(self, crowd: Users) -> None:
        crowd.recent = np.full((len(crowd.everyone), WINDOW), -1)
        crowd.popularity = np.zeros(self.settings.items)

    def worth(self, crowd: Users) -> np.ndarray:
        """Return the quality of each item plus the effect of its popularity, [items]."""
        return 0.4 * self.quality + 0.5 * np.log1p(40.0 * crowd.popularity)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        effect = self.worth(crowd)[rows] - 4.0 * (crowd.recent == rows[:, None]).any(axis=1)
        crowd.mood = 0.9 * crowd.mood + effect - 1.0
        crowd.recent = np.concatenate([crowd.recent[:, 1:], rows[:, None]], axis=1)
        likes = crowd.rng.random(len(rows)) < sigmoid(effect - 1.0)
        crowd.popularity *= 0.97
        np.add.at(crowd.popularity, rows[likes], 1.0 / len(rows))
        like = np.where(likes, 50.0, -50.0)
        return Reaction(sigmoid(0.25 * crowd.mood), click=-1.0 + self.appeal[rows], like=like, watch=-0.5)

    def cost(self, crowd: Users) -> np.ndarray:
        cost = np.tile(-self.worth(crowd), (len(crowd.everyone), 1))
        user, place = np.nonzero(crowd.recent >= 0)
        cost[user, crowd.recent[user, place]] += 10.0
        return cost


class Daytime(Platform):
    """Tastes that follow the time of day.

    Item i has the embedding e_i. At the hour h of the day (UTC) the good direction is d(h) = cos(2 pi h / 24) a + sin(2
    pi h / 24) b, with two hidden directions a and b at right angles. With the shown item

        mood <- 0.9 mood + e_i . d(h),    satisfaction = sigmoid(0.25 mood).

    Sources: S. A. Golder and M. W. Macy (2011), "Diurnal and Seasonal Mood Vary with Work, Sleep, and Daylength Across
    Diverse Cultures"; Q. Yuan et al. (2013), "Time-aware Point-of-interest Recommendation". A policy has to learn an
    interaction of item and clock: on average over the day every item is worth nothing.

    Items with embeddings, uniform in [-1, 1]^8; the appeal has a direction of its own. State: mood.
    """

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        axes = np.linalg.qr(rng.standard_normal((8, 3)))[0].T
        self.plane = axes[:2]
        self.appeal = self.embeddings @ (axes[2] + 0.5 * axes[0])

    def directions(self, crowd: Users) -> np.ndarray:
        """Return the good direction for each user at the time of the next impression, [n, 8]."""
        angle = 2.0 * np.pi * (crowd.time_ms / HOUR_MS % 24) / 24
        return np.cos(angle)[:, None] * self.plane[0] + np.sin(angle)[:, None] * self.plane[1]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        match = (self.embeddings[rows] * self.directions(crowd)).sum(axis=1)
        crowd.mood = 0.9 * crowd.mood + match
        satisfaction = sigmoid(0.25 * crowd.mood)
        click = -1.0 + self.appeal[rows]
        return Reaction(satisfaction, click=click, like=-2.5 + match + 2.0 * satisfaction, watch=-0.5 + 0.3 * match)

    def cost(self, crowd: Users) -> np.ndarray:
        return -(self.directions(crowd) @ self.embeddings.T)


class Regimes(Platform):
    """Regimes of the platform.

    The platform is in one of three regimes z for five days at a time, a Markov chain: it stays with probability 0.4,
    and otherwise changes to one of the other two. Regime z has the good direction d_z; the three are at 120 degrees to
    each other in a hidden plane. With the item of embedding e_i

        mood <- 0.9 mood + e_i . d_z,    satisfaction = sigmoid(0.25 mood),

    and a click has the log-odds 2 e_i . d_z - 1. Source: J. D. Hamilton (1989), "A New Approach to the Economic
    Analysis of Nonstationary Time Series and the Business Cycle". A policy has to infer the regime from recent clicks
    and follow it: on average over regimes every item is worth nothing.

    Items with embeddings, uniform in [-1, 1]^8, and the regimes of all periods. State: mood.
    """

    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        plane = np.linalg.qr(rng.standard_normal((8, 2)))[0]
        angle = 2.0 * np.pi * np.arange(REGIMES) / REGIMES
        self.directions = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ plane.T
        steps = np.where(rng.random(PERIODS) < 0.4, 0, rng.integers(1, REGIMES, PERIODS))
        self.regime = steps.cumsum() % REGIMES
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0

    def good(self, crowd: Users) -> np.ndarray:
        """Return the good direction at the time of each user's next impression, [n, 8]."""
        period = (crowd.time_ms - EPOCH_MS) // (DAYS * DAY_MS)
        return self.directions[self.regime[np.minimum(period, PERIODS - 1)]]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        match = (self.embeddings[rows] * self.good(crowd)).sum(axis=1)
        crowd.mood = 0.9 * crowd.mood + match
        satisfaction = sigmoid(0.25 * crowd.mood)
        return Reaction(satisfaction, click=2.0 * match - 1.0, like=-2.0 + match, watch=-0.5 + 0.5 * match)

    def cost(self, crowd: Users) -> np.ndarray:
        return -(self.good(crowd) @ self.embeddings.T)
