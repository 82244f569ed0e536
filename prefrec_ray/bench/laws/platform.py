"""Common parts of all laws: users, sessions, feedback and the logging policy.

A law is a subclass of `LawPlatform`: it draws the items and the traits of users, and defines the hidden state of users,
their reactions to an item, and the cost of items for the control `best known`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from prefrec_ray.mdp.excluded import HOUR_MS
from prefrec_ray.simulator.catalogue import CATEGORIES, draw_features, sigmoid
from prefrec_ray.simulator.crowd import SESSION_TIMEOUT_MS
from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS, ITEMS, TRAITS, Choice, Cost, Response, by_block, generator
from prefrec_ray.simulator.servers import IgnoresFeedback
from prefrec_ray.simulator.settings import BLOCK, SimulateSettings

ARRIVAL_DAYS = 14  # days within which users see their first item
WATCH_NOISE = 0.6  # standard deviation of the logarithm of the watch ratio
AWAY_NOISE = 0.5  # the same of the time between sessions
LONGEST_AWAY = 6.0  # largest logarithm of hours between sessions
REGIME = (30, 120)  # impressions with one strength of the logging policy


@dataclass(frozen=True)
class Reaction:
    """Reaction of each of n users to one item, before noise. Every field is an array [n] or one number for all."""

    satisfaction: Any  # in (0, 1), after the item
    click: Any = 0.0  # log-odds
    like: Any = 0.0  # log-odds
    watch: Any = 0.0  # logarithm of the watch ratio
    stay: Any = None  # log-odds that the session continues; None: from satisfaction
    away: Any = None  # added to the logarithm of hours until the next session; None: from satisfaction


class Users:
    """State of n users, who advance in lock-step (`SimulatedCrowd`). A law adds its hidden state as attributes."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, world: Any, users: np.ndarray, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.traits: dict[str, np.ndarray] = world.traits(users)
        self.features = {name: self.traits[name] for name in world.categories}
        self.requests, self.time_ms = self.traits["requests"], self.traits["start_ms"].copy()
        self.everyone = np.arange(len(users))
        self.gone = np.zeros(len(users), dtype=bool)
        self.position = np.zeros(len(users), dtype=np.int64)  # in the session, from 0
        self.seen = np.zeros((len(users), world.settings.items), dtype=bool) if world.no_repeats else None
        self.mood = np.zeros(len(users))  # of the laws that have one
        world.begin(self)

    def excluded(self) -> np.ndarray | None:
        """Return the items that each user has seen, bool [n, items], if the law has no repeats."""
        return self.seen

    def offer(self, users: np.ndarray, rows: np.ndarray) -> None:
        """Exclude the items `rows` [m, k] of a page from later pages of the `users` [m], if the law has no repeats."""
        if self.seen is not None:
            self.seen[users[:, None], rows] = True

    def show(self, rows: np.ndarray) -> Response:
        """Show each user the item in row `rows` [n], and advance to the next impression."""
        reaction, count = self.world.react(self, rows), len(rows)
        uniform, noise = self.rng.random((3, count)), self.rng.standard_normal((2, count))
        satisfaction = np.broadcast_to(reaction.satisfaction, count)
        ratio = np.clip(np.exp(reaction.watch + WATCH_NOISE * noise[0]), 0.0, 3.0)
        feedback = np.stack([uniform[0] < sigmoid(reaction.click), uniform[1] < sigmoid(reaction.like), ratio], axis=1)
        stay = -0.2 + 3.4 * satisfaction if reaction.stay is None else reaction.stay
        away = -3.0 * (satisfaction - 0.5) if reaction.away is None else reaction.away
        leaves = uniform[2] >= sigmoid(stay + self.traits["patience"])
        hours = np.exp(np.minimum(self.traits["log_hours"] + away + AWAY_NOISE * noise[1], LONGEST_AWAY))
        # One second to swipe, or one second more than the session timeout.
        gap_ms = np.where(leaves, SESSION_TIMEOUT_MS + 1000 + HOUR_MS * hours, 1000 + 30_000 * ratio)
        self.offer(self.everyone, rows[:, None])
        self.position = np.where(leaves, 0, self.position + 1)
        self.world.ends(self, leaves)
        self.time_ms = self.time_ms + gap_ms.astype(np.int64)
        return Response(feedback.astype(np.float32), satisfaction.astype(np.float32), leaves)


class LawPlatform:
    """Items and users of a law (`SimulatedWorld`)."""

    feedback: tuple[str, ...] = ("click", "like", "watch_ratio")
    categories: Mapping[str, tuple[str, ...]] = CATEGORIES
    controls: ClassVar[Mapping[str, Cost]] = {"best known": lambda crowd: crowd.world.cost(crowd)}
    no_repeats = False
    #: Range of the logging policy's strength. Each user has a strength of its own, drawn again after some impressions.
    strength = (-1.0, 3.0)
    #: Embeddings float32 [items, 8], or None: the columns of `kinds` (codes int64 [items]) describe the items.
    embeddings: Any = None
    #: Appeal of each item to the logging policy, float [items].
    appeal: np.ndarray

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        self.kinds: dict[str, np.ndarray] = {}
        self.draw_items(settings.items, generator(settings.seed, ITEMS))

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        """Set the appeal, the embeddings or kinds, and the hidden values of the items."""
        raise NotImplementedError

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return traits of `count` users that only this law has, arrays [count, ...] by name."""
        return {}

    def begin(self, crowd: Users) -> None:
        """Set the hidden state before the first impression; `mood` is 0."""

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        """Return the reactions to the items in `rows` [n], and update the hidden state."""
        raise NotImplementedError

    def ends(self, crowd: Users, leaves: np.ndarray) -> None:
        """Update the hidden state of the users whose session ends (bool [n])."""

    def cost(self, crowd: Users) -> np.ndarray:
        """Return the long-term cost of each item for each user, float [n, items], from the hidden state."""
        raise NotImplementedError

    def items(self) -> pa.Table:
        """Return item_id and embedding, or item_id and one column of text per kind."""
        columns: dict[str, Any] = {"item_id": np.arange(self.settings.items)}
        if self.embeddings is None:
            columns |= {name: [f"{name} {code}" for code in codes] for name, codes in self.kinds.items()}
        else:
            flat = pa.array(self.embeddings.astype(np.float32).ravel())
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.embeddings.shape[1])
        return pa.table(columns)

    def crowd(self, users: np.ndarray, rng: np.random.Generator) -> Users:
        """Return `users` (numbers [n], ascending) before their first impressions."""
        return Users(self, users, rng)

    def logging_policy(self, crowd: Users, rng: np.random.Generator) -> Softmax:
        """Return a softmax of strength * appeal."""
        return Softmax(crowd, rng)

    def traits(self, users: np.ndarray) -> dict[str, np.ndarray]:
        """Return the traits and features of `users`."""
        return by_block(users, self._block_traits)

    def _block_traits(self, block: int) -> dict[str, np.ndarray]:
        rng = generator(self.settings.seed, TRAITS, block)
        patience, gap = rng.standard_normal((2, BLOCK))
        length = np.clip(0.8 + rng.exponential(0.2, BLOCK), 0.8, 2.0)
        return {
            "patience": 0.3 * patience,
            "log_hours": np.log(14.0) + 0.5 * gap,
            "start_ms": EPOCH_MS + rng.integers(0, ARRIVAL_DAYS * DAY_MS, BLOCK),
            "requests": np.maximum(1, np.rint(length * self.settings.requests)).astype(np.int64),
            **draw_features({"age": patience, "activity": -gap}, rng),
            **self.draw_traits(BLOCK, rng),
        }


class Softmax(IgnoresFeedback):
    """Serves items with probabilities proportional to exp(strength * appeal), except for the excluded ones."""

    def __init__(self, crowd: Users, rng: np.random.Generator) -> None:
        self.crowd, self.rng = crowd, rng
        self.strength = np.zeros(len(crowd.time_ms))
        self.remaining = np.zeros(len(crowd.time_ms), np.int64)

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        rows, propensity = self.serve_pages(self.crowd.everyone, time_ms, excluded, 1)
        return Choice(rows[:, 0], propensity[:, 0])  # type: ignore[index]

    def serve_pages(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None, k: int) -> Choice:
        """Return pages of k items for the `users`; see `PageServer`."""
        ended = np.flatnonzero(self.remaining == 0)
        low, high = self.crowd.world.strength
        self.strength[ended] = self.rng.uniform(low, high, len(ended))
        regimes = self.crowd.world.settings.regimes
        self.remaining[ended] = self.rng.integers(REGIME[0], REGIME[1] + 1, len(ended)) if regimes else -1
        score = self.strength[users, None] * self.crowd.world.appeal
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        if excluded is not None:
            weight *= ~excluded[users]
        drawn, everyone = [], np.arange(len(users))
        for _ in range(k):
            below = weight.cumsum(axis=1)
            # Random numbers of all users, so that a user's do not depend on who needs a page.
            uniform = self.rng.random(len(self.strength))[users] * below[:, -1]
            rows = (below > uniform[:, None]).argmax(axis=1)
            drawn.append((rows, weight[everyone, rows] / below[:, -1]))
            weight[everyone, rows] = 0.0
        pages, propensity = (np.stack(column, axis=1) for column in zip(*drawn, strict=True))
        return Choice(pages, propensity)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Count the impression: a page, whose items are served one after another, has one strength."""
        self.remaining -= 1
