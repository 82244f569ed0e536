"""The simulator's own law (law.py): its items, and its users with their hidden traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from prefrec_ray.simulator.crowd import FEEDBACK, Crowd, sigmoid
from prefrec_ray.simulator.features import CATEGORIES, draw_features
from prefrec_ray.simulator.law import Cost
from prefrec_ray.simulator.logging_policy import LoggingPolicy
from prefrec_ray.simulator.servers import clickbait, nutrition
from prefrec_ray.simulator.settings import BLOCK, EMBEDDING_DIM, SimulateSettings

EPOCH_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
DAY_MS = 86_400_000
ARRIVAL_DAYS = 28  # days within which users see their first item

# Streams of random numbers. Each is a function only of (seed, stream, part).
ITEMS, TRAITS, LOGGING, ROLLOUT, TASTES, DRIFT = range(6)


def generator(seed: int, stream: int, *part: int) -> np.random.Generator:
    """Return an independent generator for each (seed, stream, part)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *part])))


@dataclass(frozen=True)
class Traits:
    """Hidden traits of n users; every field is an array [n], except for `turn` [n, 8]."""

    exposure: np.ndarray  # of the satisfaction dynamics, before the first impression
    sensitivity: np.ndarray
    patience: np.ndarray  # added to the log-odds that a session continues
    generosity: np.ndarray  # added to the log-odds of likes and other active feedback
    log_gap: np.ndarray  # logarithm of the typical gap in seconds, at a satisfaction of one half
    start_ms: np.ndarray  # time of the first impression
    requests: np.ndarray  # number of the user's impressions in the log
    taste: np.ndarray  # the direction that is clickbait for the user, int64
    turn: np.ndarray  # unit vector at right angles to it, towards which it turns; 0 without drift
    features: dict[str, np.ndarray]  # name -> strings, None if unknown

    def take(self, rows: np.ndarray) -> Traits:
        """Return the users at `rows`."""
        arrays = {name: values[rows] for name, values in self._arrays().items()}
        return Traits(**arrays, features={name: values[rows] for name, values in self.features.items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Traits]) -> Traits:
        """Return the users of all `parts`, at least one."""
        arrays = {name: np.concatenate([part._arrays()[name] for part in parts]) for name in parts[0]._arrays()}
        features = {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features}
        return cls(**arrays, features=features)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "features"}


class World:
    """Items and users of the simulator's law; equal settings make equal worlds."""

    feedback: tuple[str, ...] = FEEDBACK
    categories: Mapping[str, tuple[str, ...]] = CATEGORIES
    controls: Mapping[str, Cost] = {"clickbait": clickbait, "nutrition": nutrition}

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        rng = generator(settings.seed, ITEMS)
        first = rng.standard_normal((1, EMBEDDING_DIM))
        self.embeddings = rng.uniform(-1.0, 1.0, (settings.items, EMBEDDING_DIM)).astype(np.float32)
        #: The embeddings, scaled to length 1.
        self.units = self.embeddings / np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        tastes, slope = settings.world.tastes, settings.world.clickbait_slope
        drawn = np.concatenate([first, rng.standard_normal(((tastes - 1) // 2, EMBEDDING_DIM))])
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        #: Unit vectors float64 [tastes, 8], and the clickbait degrees of the items, float32 [tastes, items].
        self.directions = np.stack([drawn, -drawn], axis=1).reshape(-1, EMBEDDING_DIM)[:tastes]
        self.clickbait = sigmoid(slope * (self.directions @ self.embeddings.T)).astype(np.float32)
        #: Items become available in the order of their rows: at each of these times (int64, ascending) the first
        #: available item is replaced by the next. The last items stay available.
        replaced = np.arange(1, settings.items - settings.available + 1)
        a_day = settings.world.new_items * settings.available
        self.replacements_ms = EPOCH_MS + np.ceil(DAY_MS * replaced / a_day).astype(np.int64) if a_day else replaced[:0]

    def first_available(self, time_ms: np.ndarray) -> np.ndarray:
        """Return the row of the first available item at each time int64 [n]: `settings.available` items from there."""
        return np.searchsorted(self.replacements_ms, time_ms, side="right")

    def life_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the times in ms at which each item becomes available and unavailable, [items] each.

        The end is NaN (float64) for the last items, which stay available.
        """
        return (
            np.r_[np.full(self.settings.available, EPOCH_MS), self.replacements_ms],
            np.r_[self.replacements_ms, np.full(self.settings.available, np.nan)],
        )

    def items(self) -> pa.Table:
        """Return item_id and embedding; also from_ms and until_ms if items come and go."""
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(self.embeddings.ravel()), EMBEDDING_DIM)
        columns = {"item_id": np.arange(len(self.embeddings)), "embedding": embedding}
        if self.settings.world.new_items:
            start, end = self.life_spans()
            columns |= {"from_ms": start, "until_ms": pa.array(end, from_pandas=True).cast(pa.int64())}
        return pa.table(columns)

    def crowd(self, users: np.ndarray, rng: np.random.Generator) -> Crowd:
        """Return `users` (numbers [n], ascending) before their first impressions."""
        return Crowd(self, self.traits(users), rng)

    def logging_policy(self, crowd: Crowd, rng: np.random.Generator) -> LoggingPolicy:
        """Return the policy that writes the log of `crowd`."""
        return LoggingPolicy(crowd, rng)

    def traits(self, users: np.ndarray) -> Traits:
        """Return the traits of any `users` (numbers [n], ascending)."""
        parts = [self._block_traits(int(b)).take(users[users // BLOCK == b] % BLOCK) for b in np.unique(users // BLOCK)]
        return Traits.concatenate(parts)

    def _block_traits(self, block: int) -> Traits:
        """Return the traits of a block, always drawn whole, so that a user does not depend on the other drawn users."""
        law = self.settings.world
        rng = generator(self.settings.seed, TRAITS, block)
        mood, sensitive, patience, generosity, gap = rng.standard_normal((5, BLOCK))
        length = np.clip(0.8 + rng.exponential(0.2, BLOCK), 0.8, 2.0)
        hints = {"age": patience, "activity": -gap, "persona": generosity}
        taste = np.zeros(BLOCK, dtype=np.int64)
        if law.tastes > 1:
            # Tastes have their own stream, so that all other traits are the same for any number of tastes.
            taste = generator(self.settings.seed, TASTES, block).integers(0, law.tastes, BLOCK)
            scores = ndtri((np.arange(law.tastes) + 0.5) / law.tastes)
            hints["interest"] = (scores / scores.std())[taste]
        turn = np.zeros((BLOCK, EMBEDDING_DIM))
        if law.drift:
            start = self.directions[taste]
            turn = generator(self.settings.seed, DRIFT, block).standard_normal(turn.shape)
            turn -= (turn * start).sum(axis=1, keepdims=True) * start
            turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        return Traits(
            exposure=(4.0 * mood).astype(np.float32),
            sensitivity=(law.sensitivity * np.exp(law.sensitivity_spread * sensitive)).astype(np.float32),
            patience=(0.3 * patience).astype(np.float32),
            generosity=(0.4 * generosity).astype(np.float32),
            log_gap=(np.log(3600.0 * law.gap_hours) + law.gap_spread * gap).astype(np.float32),
            start_ms=EPOCH_MS + rng.integers(0, ARRIVAL_DAYS * DAY_MS, BLOCK),
            requests=np.maximum(1, np.rint(length * self.settings.requests)).astype(np.int64),
            taste=taste,
            turn=turn,
            features=draw_features(hints, rng),
        )
