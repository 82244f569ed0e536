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

    Items of 300 creators in clusters of embeddings, no repeats. State: mood, and exposures to each creator.
    """

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

    def begin(self, crowd: Users) -> None:
        crowd.exposures = np.zeros((len(crowd.everyone), CREATORS))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        creator = self.creator[rows]
        crowd.exposures[crowd.everyone, creator] += 1
        share = np.minimum(crowd.exposures[crowd.everyone, creator], FULL) / FULL
        crowd.mood = 0.97 * crowd.mood + self.value[creator] * share
        satisfaction = sigmoid(0.2 * crowd.mood)
        bait = self.bait[rows]
        return Reaction(satisfaction, click=-1.0 + bait, like=-2.5 + 2.0 * satisfaction, watch=-0.5 + 0.3 * bait)

    def cost(self, crowd: Users) -> np.ndarray:
        # A first item of a good creator counts half of the later ones, because it is a step towards them.
        share = 0.5 + 0.5 * np.minimum(crowd.exposures + 1, FULL) / FULL
        return -(self.value * share)[:, self.creator]


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

    Items of 20 formats. State: joy and habit.
    """

    strength = (0.0, 2.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.format = rng.integers(0, FORMATS, count)
        self.kinds = {"format": self.format}
        order = rng.permutation(FORMATS)
        self.ritual = order < RITUALS
        self.joy = np.where(self.ritual, -1.0, np.linspace(-1.0, 1.0, FORMATS)[order])
        self.appeal = rng.standard_normal(FORMATS)[self.format]

    def begin(self, crowd: Users) -> None:
        crowd.joy = np.zeros(len(crowd.everyone))
        crowd.habit = np.full(len(crowd.everyone), 0.3)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        kind = self.format[rows]
        changed = np.where(self.ritual[kind], crowd.habit + 0.3 * (1.0 - crowd.habit), 0.8 * crowd.habit)
        crowd.habit = np.where(crowd.position == 0, changed, crowd.habit)
        joy = self.joy[kind]
        crowd.joy = 0.8 * crowd.joy + 0.2 * joy
        pleasure = sigmoid(3.0 * crowd.joy)
        satisfaction, stay, away = (crowd.habit + pleasure) / 2, 3.0 * pleasure, 3.0 * (0.4 - crowd.habit)
        return Reaction(satisfaction, click=-0.5 + joy, like=-2.0 + joy, watch=-0.5 + 0.5 * joy, stay=stay, away=away)

    def cost(self, crowd: Users) -> np.ndarray:
        first = (crowd.position == 0)[:, None]
        return np.where(first, -1.0 * self.ritual, -self.joy)[:, self.format]


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

    Items of 30 genres. State: adaptation, and of this session the largest and the last feeling (NaN: none).
    """

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.genre = rng.integers(0, INTENSITIES, count)
        self.kinds = {"genre": self.genre}
        self.intensity = rng.permutation(np.linspace(-1.0, 1.0, INTENSITIES))
        self.appeal = self.intensity[self.genre] + 0.5 * rng.standard_normal(INTENSITIES)[self.genre]

    def begin(self, crowd: Users) -> None:
        crowd.adaptation = np.zeros(len(crowd.everyone))
        crowd.peak = np.full(len(crowd.everyone), np.nan)
        crowd.last = np.full(len(crowd.everyone), np.nan)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        intensity = self.intensity[self.genre[rows]]
        feeling = intensity - 0.7 * crowd.adaptation
        crowd.adaptation = 0.85 * crowd.adaptation + 0.15 * intensity
        crowd.peak = np.fmax(crowd.peak, feeling)
        memory = crowd.peak / 2 + np.where(np.isnan(crowd.last), feeling, (feeling + crowd.last) / 2) / 2
        crowd.last = feeling
        stay, away = 1.6 - 1.2 * intensity, -2.5 * (memory - 0.3)
        like = -2.0 + feeling
        return Reaction(
            sigmoid(2.0 * memory), click=-1 + intensity, like=like, watch=0.3 * feeling, stay=stay, away=away
        )

    def ends(self, crowd: Users, leaves: np.ndarray) -> None:
        crowd.peak[leaves] = crowd.last[leaves] = np.nan

    def cost(self, crowd: Users) -> np.ndarray:
        # An intense item at the start of a session, and then whenever light items have lowered the adaptation.
        ready = (crowd.position == 0) | (crowd.adaptation < -0.5)
        return np.where(ready, -1.0, 1.0)[:, None] * self.intensity[self.genre]


class Departing(Platform):
    """Users who depart after a streak of misses.

    A user is of one of four hidden types z. Item i belongs to one of 30 groups g, and is a hit with the probability
    p_zg: a click. After three misses in a row the session ends, and it is the user's last with probability 0.03. With
    every item

        trust <- 0.9 trust + 0.1 hit,    satisfaction = sigmoid(6 (trust - 0.5)).

    Source: O. Ben-Porat et al. (2022), "Modeling Attrition in Recommender Systems with Departing Bandits". A policy has
    to find the type of a user, and to show a safe item after a miss. Half of the groups are safe for all types (p =
    0.6); the others have p = 0.95 for one type and 0.2 for the other three. Embeddings lie near a point of the group.

    Items of 30 groups, some safe and some for one type of users. State: trust, and the number of misses in a row.
    """

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

    def begin(self, crowd: Users) -> None:
        crowd.trust = np.full(len(crowd.everyone), 0.5)
        crowd.misses = np.zeros(len(crowd.everyone), dtype=np.int64)

    def chances(self, crowd: Users) -> np.ndarray:
        """Return the probability of a hit by group, [n, groups]."""
        return self.chance[crowd.traits["type"]]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        uniform = crowd.rng.random((2, len(rows)))
        hit = uniform[0] < self.chances(crowd)[crowd.everyone, self.group[rows]]
        crowd.misses = np.where(hit, 0, crowd.misses + 1)
        crowd.trust = 0.9 * crowd.trust + 0.1 * hit
        over = crowd.misses == STREAK
        crowd.misses[over] = 0
        crowd.gone = crowd.gone | (over & (uniform[1] < 0.03))
        satisfaction = sigmoid(6.0 * (crowd.trust - 0.5))
        stay = np.where(over, -CERTAIN, -0.2 + 3.4 * satisfaction)
        return Reaction(
            satisfaction, np.where(hit, CERTAIN, -CERTAIN), like=-3.0 + 1.5 * hit, watch=-1 + hit, stay=stay
        )

    def cost(self, crowd: Users) -> np.ndarray:
        return -self.chances(crowd)[:, self.group]


class Budget(Platform):
    """A budget of attention per day.

    Item i has a length L_i of 1 to 8 minutes and belongs to one of 40 genres of value g in [0, 1]; v_i = 0.6 g + 0.05
    L_i. A user has B = 20 minutes at the first impression of a day (UTC). With every item

        B <- B - L_i,    joy <- 0.9 joy + 0.1 (v_i - [B < 0]),    satisfaction = sigmoid(8 (joy - 0.4)).

    A session continues with log-odds 2 if B > 0, and 0 otherwise. Sources: E. Ie et al. (2019), "SlateQ: A Tractable
    Decomposition for Reinforcement Learning with Recommendation Sets" (budgets of time); D. Kahneman (1973), "Attention
    and Effort". A policy has to learn that long items are liked but use up the day: value per minute counts, and short
    items at the end of a day. Items have two categories, length and genre, and no embeddings.

    Items with a length and a genre. State: joy, the day of the last impression, and the minutes left on this day.
    """

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.length = rng.integers(1, LONGEST + 1, count)
        genre = rng.integers(0, GENRES, count)
        self.kinds = {"length": self.length, "genre": genre}
        self.value = 0.6 * rng.permutation(np.linspace(0.0, 1.0, GENRES))[genre] + 0.05 * self.length
        self.appeal = 0.3 * self.length + 0.5 * rng.standard_normal(GENRES)[genre]

    def begin(self, crowd: Users) -> None:
        crowd.joy = np.full(len(crowd.everyone), 0.4)
        crowd.day = np.full(len(crowd.everyone), -1)
        crowd.budget = np.zeros(len(crowd.everyone))

    def left(self, crowd: Users) -> np.ndarray:
        """Return the minutes left before the next impression, [n]."""
        return np.where(crowd.time_ms // DAY_MS == crowd.day, crowd.budget, MINUTES)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        crowd.budget = self.left(crowd) - self.length[rows]
        crowd.day = crowd.time_ms // DAY_MS
        value, over = self.value[rows], crowd.budget < 0
        crowd.joy = 0.9 * crowd.joy + 0.1 * (value - over)
        satisfaction = sigmoid(8.0 * (crowd.joy - 0.4))
        watch = -1.0 + 0.2 * self.length[rows] - 0.5 * over
        stay = np.where(crowd.budget > 0, 2.0, 0.0)
        return Reaction(satisfaction, click=3.0 * value - 2.0, like=-3.0 + 4.0 * value - over, watch=watch, stay=stay)

    def cost(self, crowd: Users) -> np.ndarray:
        over = self.left(crowd)[:, None] < self.length
        return -(self.value - 0.1 * self.length) + over
