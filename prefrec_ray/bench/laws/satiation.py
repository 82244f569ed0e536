"""Laws of satiation: repetition changes what an item is worth."""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import HOUR_MS, Platform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

TOPICS, WINDOW, MOST = 40, 30, 4  # topics
CATEGORIES = 40  # recharging
BRANDS = 60  # wearout
GENRES, FREE = 24, 3  # overload


class Topics(Platform):
    """Satiation by topic, with a threshold and recovery.

    Item i has one of 40 topics g(i), near the topic's point in the space of embeddings. Topic g has the cost c_g in [0,
    1], independent of its point. Let n be the number of items of the topic g(i) among the last 30 impressions. Then

        mood <- 0.95 mood + 1 - 2 c_g(i) - 3 [n >= 4],    satisfaction = sigmoid(0.2 mood).

    Source: L. McAlister (1982), "A Dynamic Attribute Satiation Model of Variety-Seeking Behavior"; the threshold is an
    addition. A policy has to learn the costs of topics, to show at most four items of a topic among 30, and so to
    rotate between the eight best topics. Similarity of embeddings to recent items is a poor view of the counts.

    Items of 40 topics in clusters of embeddings. State: mood, and the topics of the last 30 impressions (-1: none).
    """

    strength = (-4.0, 4.5)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.topic = rng.integers(0, TOPICS, count)
        self.kinds = {"topic": self.topic}
        self.topic_cost = rng.permutation(np.linspace(0.0, 1.0, TOPICS))
        points = rng.uniform(-0.8, 0.8, (TOPICS, 8))
        self.embeddings = np.clip(points[self.topic] + 0.12 * rng.standard_normal((count, 8)), -1.0, 1.0)
        self.appeal = self.topic_cost[self.topic] + 0.3 * rng.standard_normal(count)

    def begin(self, crowd: Users) -> None:
        crowd.recent = np.full((len(crowd.everyone), WINDOW), -1)

    def counts(self, crowd: Users) -> np.ndarray:
        """Return the number of recent impressions of each topic, [n, topics]."""
        return (crowd.recent[:, :, None] == np.arange(TOPICS)).sum(axis=1)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        topic = self.topic[rows]
        tired = (crowd.recent == topic[:, None]).sum(axis=1) >= MOST
        cost = self.topic_cost[topic]
        crowd.mood = 0.95 * crowd.mood + 1.0 - 2.0 * cost - 3.0 * tired
        crowd.recent = np.concatenate([crowd.recent[:, 1:], topic[:, None]], axis=1)
        satisfaction = sigmoid(0.2 * crowd.mood)
        like = -2.5 + 3.0 * satisfaction - 1.5 * tired
        return Reaction(satisfaction, click=-1.0 + 2.0 * cost, like=like, watch=-0.5 + 0.8 * cost - 0.5 * tired)

    def cost(self, crowd: Users) -> np.ndarray:
        by_topic = self.topic_cost + 3.0 * (self.counts(crowd) >= MOST)
        return by_topic[:, self.topic]


class Recharging(Platform):
    """Categories that recharge with the hours since they were shown.

    Item i has one of 40 categories c of value v_c in [0, 1] and recharge time r_c of 2 to 100 hours. t is the number of
    hours since the user saw the category (infinite: never). With the shown item

        mood <- 0.9 mood + 2 v_c (1 - exp(-t / r_c)) - 1,    satisfaction = sigmoid(0.4 mood).

    Source: R. Kleinberg and N. Immorlica (2018), "Recharging Bandits". A policy has to rotate between good categories,
    each at its own pace: the clock counts, not the number of impressions between, so that within one session no
    category comes twice. Items have one category and no embeddings.

    Items of 40 categories, some of which are shown often. State: mood, and the time in ms at which each category was
    shown (-inf: never).
    """

    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.category = rng.integers(0, CATEGORIES, count)
        self.kinds = {"category": self.category}
        self.value = rng.permutation(np.linspace(0.0, 1.0, CATEGORIES))
        self.recharge = np.exp(rng.uniform(np.log(2.0), np.log(100.0), CATEGORIES))
        self.appeal = rng.standard_normal(CATEGORIES)[self.category]

    def begin(self, crowd: Users) -> None:
        crowd.shown_ms = np.full((len(crowd.everyone), CATEGORIES), -np.inf)

    def payoffs(self, crowd: Users) -> np.ndarray:
        """Return the payoff of each category at the next impression, [n, categories]."""
        hours = (crowd.time_ms[:, None] - crowd.shown_ms) / HOUR_MS
        return self.value * (1.0 - np.exp(-hours / self.recharge))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        category = self.category[rows]
        payoff = self.payoffs(crowd)[crowd.everyone, category]
        crowd.shown_ms[crowd.everyone, category] = crowd.time_ms
        crowd.mood = 0.9 * crowd.mood + 2.0 * payoff - 1.0
        satisfaction = sigmoid(0.4 * crowd.mood)
        click = -1.0 + self.appeal[rows]
        return Reaction(satisfaction, click=click, like=-2.0 + 2.0 * payoff, watch=-0.5 + 0.3 * payoff)

    def cost(self, crowd: Users) -> np.ndarray:
        return -self.payoffs(crowd)[:, self.category]


class Wearout(Platform):
    """Wear-in and wear-out of brands.

    Item i is of one of 60 brands b with worth w_b in [-1, 1]. n_b is a discounted count of the brand's items, n <- 0.97
    n at every impression, plus 1 for the shown brand. With the shown item

        mood <- 0.93 mood + w_b (1 - exp(-n_b)) - (n_b / 6)^2,    satisfaction = sigmoid(0.4 mood).

    Sources: D. E. Berlyne (1970), "Novelty, Complexity, and Hedonic Value" (two factors); C. Pechmann and D. W. Stewart
    (1988), "Advertising Repetition: A Critical Review of Wearin and Wearout". A policy has to repeat good brands until
    they work, and to rest them before they wear out. Items have one category, the brand, and no embeddings.

    Items of 60 brands, some of which are shown often. State: mood, and discounted exposures to each brand.
    """

    strength = (-1.0, 2.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.brand = rng.integers(0, BRANDS, count)
        self.kinds = {"brand": self.brand}
        self.worth = rng.permutation(np.linspace(-1.0, 1.0, BRANDS))
        self.appeal = rng.standard_normal(BRANDS)[self.brand]

    def begin(self, crowd: Users) -> None:
        crowd.exposures = np.zeros((len(crowd.everyone), BRANDS))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        brand = self.brand[rows]
        crowd.exposures *= 0.97
        crowd.exposures[crowd.everyone, brand] += 1
        count, worth = crowd.exposures[crowd.everyone, brand], self.worth[brand]
        effect = worth * (1 - np.exp(-count)) - (count / 6) ** 2
        crowd.mood = 0.93 * crowd.mood + effect
        satisfaction = sigmoid(0.4 * crowd.mood)
        return Reaction(satisfaction, click=-1.0 + effect, like=-2.5 + 3.0 * satisfaction, watch=-0.3 + 0.3 * effect)

    def cost(self, crowd: Users) -> np.ndarray:
        count = 0.97 * crowd.exposures + 1
        # Tedium counts more than once, because it also lowers the effect of later items of the brand.
        effect = self.worth * (1 - np.exp(-count)) - 2.0 * (count / 6) ** 2
        return -effect[:, self.brand]


class Variety(Platform):
    """Variety seeking with an optimum of stimulation.

    I is the running mean of the embeddings of a user's items, I <- 0.8 I + 0.2 e_i. The stimulation by an item is its
    distance |e_i - I| before this update. User u has an optimum s_u in [0.5, 1.5]. With the shown item

        mood <- 0.9 mood + 1 - 3 (|e_i - I| - s_u)^2,    satisfaction = sigmoid(0.25 mood).

    Sources: L. McAlister and E. Pessemier (1982), "Variety Seeking Behavior: An Interdisciplinary Review"; D. E.
    Berlyne (1960), "Conflict, Arousal, and Curiosity". A policy has to find the optimum of a user, and to keep this
    distance from recent items: neither similar nor random items are good.

    Items with embeddings, uniform in [-1, 1]^8. State: mood, and the running mean of embeddings.
    """

    strength = (0.0, 5.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"optimum": rng.uniform(0.5, 1.5, count)}

    def begin(self, crowd: Users) -> None:
        crowd.mean = np.zeros((len(crowd.everyone), 8))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        item = self.embeddings[rows]
        stimulation = np.linalg.norm(item - crowd.mean, axis=1)
        effect = 1.0 - 3.0 * (stimulation - crowd.traits["optimum"]) ** 2
        crowd.mood = 0.9 * crowd.mood + effect
        crowd.mean = 0.8 * crowd.mean + 0.2 * item
        satisfaction = sigmoid(0.25 * crowd.mood)
        return Reaction(satisfaction, click=-1.0 + self.appeal[rows], like=-2.0 + effect, watch=0.2 * effect - 0.5)

    def cost(self, crowd: Users) -> np.ndarray:
        squares = (self.embeddings**2).sum(axis=1) + (crowd.mean**2).sum(axis=1)[:, None]
        distance = np.sqrt(np.maximum(squares - 2.0 * crowd.mean @ self.embeddings.T, 0.0))
        return (distance - crowd.traits["optimum"][:, None]) ** 2


class Overload(Platform):
    """Momentum and choice overload within a session.

    Item i has one of 24 genres g. User u likes genre g by a_ug, a standard normal number. k is the number of different
    genres in the session so far, and m the number of its items of this genre, both with the shown item. With this item

        x = a_ug - 0.8 max(k - 3, 0) - 0.6 max(m - 3, 0),
        ease <- 0.85 ease + 0.15 x,    satisfaction = sigmoid(1.5 ease).

    The log-odds that the session continues are larger by 0.6 if the genre is that of the item before. Source: S. S.
    Iyengar and M. R. Lepper (2000), "When Choice is Demotivating: Can One Desire Too Much of a Good Thing?". A policy
    has to find the genres of a user, and to keep to few of them in one session, but not to one; a new session starts
    with no load. Items have one category, the genre, and no embeddings.

    Items of 24 genres, and users who like some of them. State: ease, the items of this session by genre, and the last
    genre (-1: none).
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
