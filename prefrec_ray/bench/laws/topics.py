"""Satiation by topic, with a threshold and recovery.

Item i has one of 40 topics g(i), near the topic's point in the space of embeddings. Topic g has the cost c_g in [0,
1], independent of its point. Let n be the number of items of the topic g(i) among the last 30 impressions. Then

    mood <- 0.95 mood + 1 - 2 c_g(i) - 3 [n >= 4],    satisfaction = sigmoid(0.2 mood).

Source: L. McAlister (1982), "A Dynamic Attribute Satiation Model of Variety-Seeking Behavior"; the threshold is an
addition. A policy has to learn the costs of topics, to show at most four items of a topic among 30, and so to
rotate between the eight best topics. The similarity of an embedding to recent ones shows the counts poorly.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

TOPICS, WINDOW, MOST = 40, 30, 4


class Topics(LawPlatform):
    """Items of 40 topics in clusters of embeddings. State: mood, and the topics of the last 30 items (-1: none)."""

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
