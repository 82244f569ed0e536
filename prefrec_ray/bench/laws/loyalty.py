"""Laws of loyalty: what users remember decides whether and when they come back."""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import Platform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid
from prefrec_ray.simulator.law import DAY_MS

CREATORS, FULL = 300, 5  # creators
FORMATS, RITUALS = 20, 4  # habit
INTENSITIES = 30  # peak_end
TYPES, GROUPS, STREAK = 4, 30, 3  # departing
CERTAIN = 50.0  # log-odds of a sure event  # departing
GENRES, LONGEST, MINUTES = 40, 8, 20  # budget


class LoyalUsers(Users):
    """State: mood, and exposures to each creator."""

    def begin(self) -> None:
        self.exposures = np.zeros((len(self.everyone), CREATORS))

    def react(self, rows: np.ndarray) -> Reaction:
        creator = self.world.creator[rows]
        self.exposures[self.everyone, creator] += 1
        share = np.minimum(self.exposures[self.everyone, creator], FULL) / FULL
        self.mood = 0.97 * self.mood + self.world.value[creator] * share
        satisfaction = sigmoid(0.2 * self.mood)
        bait = self.world.bait[rows]
        return Reaction(satisfaction, click=-1.0 + bait, like=-2.5 + 2.0 * satisfaction, watch=-0.5 + 0.3 * bait)

    def cost(self) -> np.ndarray:
        # A first item of a good creator counts half of the later ones, because it is a step towards them.
        share = 0.5 + 0.5 * np.minimum(self.exposures + 1, FULL) / FULL
        return -(self.world.value * share)[:, self.world.creator]


class Creators(Platform):
    """Loyalty to creators.

    Item i is by one of 300 creators b(i) and is shown to a user at most once. Creator b has the lasting value w_b, a
    standard normal number. At the k-th item of the creator that a user sees,

        mood <- 0.97 mood + w_b min(k, 5) / 5,    satisfaction = sigmoid(0.2 mood).

    Clicks and watch time depend on a bait of the item that is independent of w.

    Sources: R. B. Zajonc (1968), "Attitudinal Effects of Mere Exposure"; D. Horton and R. R. Wohl (1956), "Mass
    Communication and Para-Social Interaction". A policy has to learn the values of creators from return times only, and
    to return to a good creator although the first items help little. Embeddings lie near a point of the creator;
    neighbouring creators have independent values.

    Items of 300 creators in clusters of embeddings, no repeats.
    """

    users = LoyalUsers
    no_repeats = True
    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.creator = rng.permutation(np.arange(count) % CREATORS)
        self.kinds = {"creator": self.creator}
        self.value, reach = rng.standard_normal((2, CREATORS))
        self.bait = rng.standard_normal(count)
        points = rng.uniform(-0.9, 0.9, (CREATORS, 8))
        self.embeddings = np.clip(points[self.creator] + 0.08 * rng.standard_normal((count, 8)), -1.0, 1.0)
        self.appeal = reach[self.creator] + 0.5 * self.bait


class HabitualUsers(Users):
    """State: joy and habit."""

    def begin(self) -> None:
        self.joy = np.zeros(len(self.everyone))
        self.habit = np.full(len(self.everyone), 0.3)

    def react(self, rows: np.ndarray) -> Reaction:
        kind = self.world.format[rows]
        changed = np.where(self.world.ritual[kind], self.habit + 0.3 * (1.0 - self.habit), 0.8 * self.habit)
        self.habit = np.where(self.position == 0, changed, self.habit)
        joy = self.world.joy[kind]
        self.joy = 0.8 * self.joy + 0.2 * joy
        pleasure = sigmoid(3.0 * self.joy)
        satisfaction, stay, away = (self.habit + pleasure) / 2, 3.0 * pleasure, 3.0 * (0.4 - self.habit)
        return Reaction(satisfaction, click=-0.5 + joy, like=-2.0 + joy, watch=-0.5 + 0.5 * joy, stay=stay, away=away)

    def cost(self) -> np.ndarray:
        first = (self.position == 0)[:, None]
        return np.where(first, -1.0 * self.world.ritual, -self.world.joy)[:, self.world.format]


class Habit(Platform):
    """Habits of return.

    Item i has one of 20 formats; four are rituals, such as a briefing. The habit h in [0, 1] changes only with the
    first item of a session: h <- h + 0.3 (1 - h) with a ritual, h <- 0.8 h with another item. A ritual has the joy j =
    -1, another format a joy between -1 and 1. With every item

        joy <- 0.8 joy + 0.2 j,    satisfaction = (h + sigmoid(3 joy)) / 2.

    Joy decides if the session continues. Hours until the next session are multiplied by exp(3 (0.4 - h)). Sources: W.
    Wood and D. T. Neal (2007), "A New Look at Habits and the Habit-Goal Interface"; P. Lally et al. (2010), "How Are
    Habits Formed". A policy has to open every session with a ritual, which nothing in this session rewards, and to
    continue with other items. Items have one category, the format, and no embeddings.

    Items of 20 formats.
    """

    users = HabitualUsers
    strength = (0.0, 2.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.format = rng.integers(0, FORMATS, count)
        self.kinds = {"format": self.format}
        order = rng.permutation(FORMATS)
        self.ritual = order < RITUALS
        self.joy = np.where(self.ritual, -1.0, np.linspace(-1.0, 1.0, FORMATS)[order])
        self.appeal = rng.standard_normal(FORMATS)[self.format]


class RememberingUsers(Users):
    """State: adaptation, and of this session the largest and the last feeling (NaN: none)."""

    def begin(self) -> None:
        self.adaptation = np.zeros(len(self.everyone))
        self.peak = np.full(len(self.everyone), np.nan)
        self.last = np.full(len(self.everyone), np.nan)

    def react(self, rows: np.ndarray) -> Reaction:
        intensity = self.world.intensity[self.world.genre[rows]]
        feeling = intensity - 0.7 * self.adaptation
        self.adaptation = 0.85 * self.adaptation + 0.15 * intensity
        self.peak = np.fmax(self.peak, feeling)
        memory = self.peak / 2 + np.where(np.isnan(self.last), feeling, (feeling + self.last) / 2) / 2
        self.last = feeling
        stay, away = 1.6 - 1.2 * intensity, -2.5 * (memory - 0.3)
        like = -2.0 + feeling
        return Reaction(
            sigmoid(2.0 * memory), click=-1 + intensity, like=like, watch=0.3 * feeling, stay=stay, away=away
        )

    def ends(self, leaves: np.ndarray) -> None:
        self.peak[leaves] = self.last[leaves] = np.nan

    def cost(self) -> np.ndarray:
        # An intense item at the start of a session, and then whenever light items have lowered the adaptation.
        ready = (self.position == 0) | (self.adaptation < -0.5)
        return np.where(ready, -1.0, 1.0)[:, None] * self.world.intensity[self.world.genre]


class PeakEnd(Platform):
    """Memory of a session by its peak and its end.

    Item i has one of 30 genres of intensity x in [-1, 1]. A user adapts to intensity, r <- 0.85 r + 0.15 x, and feels y
    = x - 0.7 r, with r before this update. The memory of a session is half its largest y, and half the mean of its last
    two y (one after the first item). It alone decides how soon the user is back:

        satisfaction = sigmoid(2 memory),    hours until the next session are multiplied by exp(-2.5 (memory - 0.3)).

    The session continues with log-odds 1.6 - 1.2 x. Sources: D. Kahneman et al. (1993), "When More Pain Is Preferred to
    Less: Adding a Better End"; H. Helson (1964), "Adaptation-Level Theory". A policy has to save intense items for the
    peak and the end of a session, because steady intensity is not felt. Items have one category, the genre, and no
    embeddings.

    Items of 30 genres.
    """

    users = RememberingUsers
    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.genre = rng.integers(0, INTENSITIES, count)
        self.kinds = {"genre": self.genre}
        self.intensity = rng.permutation(np.linspace(-1.0, 1.0, INTENSITIES))
        self.appeal = self.intensity[self.genre] + 0.5 * rng.standard_normal(INTENSITIES)[self.genre]


class DepartingUsers(Users):
    """State: trust, and the number of misses in a row."""

    def begin(self) -> None:
        self.trust = np.full(len(self.everyone), 0.5)
        self.misses = np.zeros(len(self.everyone), dtype=np.int64)

    def chances(self) -> np.ndarray:
        """Return the probability of a hit by group, [n, groups]."""
        return self.world.chance[self.traits["type"]]

    def react(self, rows: np.ndarray) -> Reaction:
        uniform = self.rng.random((2, len(rows)))
        hit = uniform[0] < self.chances()[self.everyone, self.world.group[rows]]
        self.misses = np.where(hit, 0, self.misses + 1)
        self.trust = 0.9 * self.trust + 0.1 * hit
        over = self.misses == STREAK
        self.misses[over] = 0
        self.gone = self.gone | (over & (uniform[1] < 0.03))
        satisfaction = sigmoid(6.0 * (self.trust - 0.5))
        stay = np.where(over, -CERTAIN, -0.2 + 3.4 * satisfaction)
        return Reaction(
            satisfaction, np.where(hit, CERTAIN, -CERTAIN), like=-3.0 + 1.5 * hit, watch=-1 + hit, stay=stay
        )

    def cost(self) -> np.ndarray:
        return -self.chances()[:, self.world.group]


class Departing(Platform):
    """Users who depart after a streak of misses.

    A user is of one of four hidden types z. Item i belongs to one of 30 groups g, and is a hit with the probability
    p_zg: a click. After three misses in a row the session ends, and it is the user's last with probability 0.03. With
    every item

        trust <- 0.9 trust + 0.1 hit,    satisfaction = sigmoid(6 (trust - 0.5)).

    Source: O. Ben-Porat et al. (2022), "Modeling Attrition in Recommender Systems with Departing Bandits". A policy has
    to find the type of a user, and to show a safe item after a miss. Half of the groups are safe for all types (p =
    0.6); the others have p = 0.95 for one type and 0.2 for the other three. Embeddings lie near a point of the group.

    Items of 30 groups, some safe and some for one type of users.
    """

    users = DepartingUsers

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.group = rng.integers(0, GROUPS, count)
        points = rng.uniform(-0.9, 0.9, (GROUPS, 8))
        self.embeddings = np.clip(points[self.group] + 0.1 * rng.standard_normal((count, 8)), -1.0, 1.0)
        self.chance = np.full((TYPES, GROUPS), 0.6)
        for group in range(GROUPS // 2):
            self.chance[:, group] = 0.2
            self.chance[group % TYPES, group] = 0.95
        self.appeal = rng.standard_normal(GROUPS)[self.group]

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"type": rng.integers(0, TYPES, count)}


class BusyUsers(Users):
    """State: joy, the day of the last impression, and the minutes left on this day."""

    def begin(self) -> None:
        self.joy = np.full(len(self.everyone), 0.4)
        self.day = np.full(len(self.everyone), -1)
        self.budget = np.zeros(len(self.everyone))

    def left(self) -> np.ndarray:
        """Return the minutes left before the next impression, [n]."""
        return np.where(self.time_ms // DAY_MS == self.day, self.budget, MINUTES)

    def react(self, rows: np.ndarray) -> Reaction:
        self.budget = self.left() - self.world.length[rows]
        self.day = self.time_ms // DAY_MS
        value, over = self.world.value[rows], self.budget < 0
        self.joy = 0.9 * self.joy + 0.1 * (value - over)
        satisfaction = sigmoid(8.0 * (self.joy - 0.4))
        watch = -1.0 + 0.2 * self.world.length[rows] - 0.5 * over
        stay = np.where(self.budget > 0, 2.0, 0.0)
        return Reaction(satisfaction, click=3.0 * value - 2.0, like=-3.0 + 4.0 * value - over, watch=watch, stay=stay)

    def cost(self) -> np.ndarray:
        over = self.left()[:, None] < self.world.length
        return -(self.world.value - 0.1 * self.world.length) + over


class Budget(Platform):
    """A budget of attention per day.

    Item i has a length L_i of 1 to 8 minutes and belongs to one of 40 genres of value g in [0, 1]; v_i = 0.6 g + 0.05
    L_i. A user has B = 20 minutes at the first impression of a day (UTC). With every item

        B <- B - L_i,    joy <- 0.9 joy + 0.1 (v_i - [B < 0]),    satisfaction = sigmoid(8 (joy - 0.4)).

    A session continues with log-odds 2 if B > 0, and 0 otherwise. Sources: E. Ie et al. (2019), "SlateQ: A Tractable
    Decomposition for Reinforcement Learning with Recommendation Sets" (budgets of time); D. Kahneman (1973), "Attention
    and Effort". A policy has to learn that long items are liked but use up the day: value per minute counts, and short
    items at the end of a day. Items have two categories, length and genre, and no embeddings.

    Items with a length and a genre.
    """

    users = BusyUsers

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.length = rng.integers(1, LONGEST + 1, count)
        genre = rng.integers(0, GENRES, count)
        self.kinds = {"length": self.length, "genre": genre}
        self.value = 0.6 * rng.permutation(np.linspace(0.0, 1.0, GENRES))[genre] + 0.05 * self.length
        self.appeal = 0.3 * self.length + 0.5 * rng.standard_normal(GENRES)[genre]
