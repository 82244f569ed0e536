"""Items and users of the simulator's law: embeddings, clickbait degrees, availability; hidden traits and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS, ITEMS, generator
from prefrec_ray.simulator.settings import EMBEDDING_DIM, SimulateSettings

# With six feedback columns the state has 245 numbers: 66 + 13 * 6 + 89 categories + 12 unknowns.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "age": ("under 18", "18-24", "25-34", "35-44", "45-54", "55-64", "65 and over"),
    "gender": ("female", "male", "other"),
    "region": tuple(f"region {k:02d}" for k in range(1, 13)),
    "city_tier": tuple(f"tier {k}" for k in range(1, 6)),
    "brand": tuple(f"brand {k:02d}" for k in range(1, 11)),
    "system": ("android", "ios"),
    "language": tuple(f"language {k:02d}" for k in range(1, 7)),
    "interest": tuple(f"interest {k:02d}" for k in range(1, 25)),
    "channel": tuple(f"channel {k:02d}" for k in range(1, 7)),
    "activity": ("rare", "weekly", "some days", "most days", "daily"),
    "persona": tuple(f"persona {k}" for k in range(1, 5)),
    "plan": tuple(f"plan {k}" for k in range(1, 6)),
}
UNKNOWN_SHARE = 0.02  # share of missing values


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), with the precision of `x`."""
    return 1.0 / (1.0 + np.exp(-x))


class Catalogue:
    """Items under `settings`, and the constants of the law. Equal settings make equal items.

    A clickbait degree is sigmoid(slope * embedding . direction), between 0 (nutritious) and 1. Satisfaction is
    sigmoid(sensitivity * exposure), exposure <- memory_discount * exposure - 2 (degree - 0.5) + innovation * noise.
    """

    clickbait_slope = 3.0
    memory_discount, innovation = 0.965, 0.1
    sensitivity, sensitivity_spread = 0.12, 0.15  # the spread is the deviation of its logarithm over users
    #: Impressions after which an item counts half in the similarity to recent items.
    tiring_half_life = 20.0
    #: Logarithm of the seconds watched at full satisfaction, of clickbait and of nutritious items; its noise.
    watch_clickbait, watch_nutritious, watch_noise = 5.0, 4.0, 0.8
    #: Log-odds that a session continues: a constant, with a click, and at full satisfaction.
    stay_base, stay_click, stay_satisfaction = 0.0, 0.8, 3.6
    #: Hours to the median user's next session at half satisfaction. Of their logarithm: the deviation over users, the
    #: decrease from no to full satisfaction, and the deviation over sessions.
    gap_hours, gap_spread, gap_satisfaction, gap_noise = 14.0, 0.5, 3.0, 0.5
    #: Of the logging policy: items of a slate, strengths (below 0 it avoids clickbait), impressions with one strength.
    slate = 15
    strength = (-6.0, 10.0)
    regime_requests = (30, 120)

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        rng = generator(settings.seed, ITEMS)
        first = rng.standard_normal((1, EMBEDDING_DIM))
        self.embeddings = rng.uniform(-1.0, 1.0, (settings.items, EMBEDDING_DIM)).astype(np.float32)
        #: The embeddings, scaled to length 1.
        self.units = self.embeddings / np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        tastes = settings.world.tastes
        drawn = np.concatenate([first, rng.standard_normal(((tastes - 1) // 2, EMBEDDING_DIM))])
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        #: Unit vectors float64 [tastes, 8], and the clickbait degrees of the items, float32 [tastes, items].
        self.directions = np.stack([drawn, -drawn], axis=1).reshape(-1, EMBEDDING_DIM)[:tastes]
        self.clickbait = sigmoid(self.clickbait_slope * (self.directions @ self.embeddings.T)).astype(np.float32)
        #: Items become available in the order of their rows: at each of these times (int64, ascending) the first
        #: available item is replaced by the next. The last items stay available.
        replaced = np.arange(1, settings.items - settings.available + 1)
        a_day = settings.world.new_items * settings.available
        self.replacements_ms = EPOCH_MS + np.ceil(DAY_MS * replaced / a_day).astype(np.int64) if a_day else replaced[:0]

    def first_available(self, time_ms: np.ndarray) -> np.ndarray:
        """Return the row of the first available item at each time int64 [n]: `settings.available` items from there."""
        return np.searchsorted(self.replacements_ms, time_ms, side="right")

    def items(self) -> pa.Table:
        """Return item_id and embedding; also from_ms and until_ms if items come and go, null for items that stay."""
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(self.embeddings.ravel()), EMBEDDING_DIM)
        columns = {"item_id": np.arange(len(self.embeddings)), "embedding": embedding}
        if self.settings.world.new_items:
            stay = self.settings.available
            columns["from_ms"] = np.r_[np.full(stay, EPOCH_MS), self.replacements_ms]
            columns["until_ms"] = pa.array([*self.replacements_ms.tolist(), *[None] * stay], pa.int64())
        return pa.table(columns)


@dataclass(frozen=True)
class Traits:
    """Hidden traits of n users. Every field is an array [n], except `turn` [n, 8] and `features`."""

    exposure: np.ndarray  # state of the satisfaction dynamics before the first impression
    sensitivity: np.ndarray
    patience: np.ndarray  # added to the log-odds that a session continues
    generosity: np.ndarray  # added to the log-odds of likes and other active feedback
    log_gap: np.ndarray  # logarithm of the typical gap in seconds, at a satisfaction of one half
    start_ms: np.ndarray  # time of the first impression
    requests: np.ndarray  # number of the user's impressions in the log
    taste: np.ndarray  # the direction that is clickbait for the user, int64
    turn: np.ndarray  # unit vector, orthogonal to this direction, towards which it turns; 0 without drift
    features: dict[str, np.ndarray]  # name -> strings, None if unknown


def draw_features(hints: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one string per user and feature (object arrays [n], None if unknown).

    `hints` maps features to standard normal traits [n]. Such a feature is the band of the trait plus noise of equal
    variance; bands have equal probabilities. All other features are independent of the traits, with category
    probabilities proportional to 1 / rank.
    """
    (count,) = {len(trait) for trait in hints.values()}
    features = {}
    for name, categories in CATEGORIES.items():
        size = len(categories)
        if name in hints:
            noisy = (hints[name] + rng.standard_normal(count)) / np.sqrt(2.0)
            code = np.minimum((ndtr(noisy) * size).astype(np.int64), size - 1)
        else:
            weight = 1.0 / np.arange(1, size + 1)
            code = rng.choice(size, size=count, p=weight / weight.sum())
        values = np.array(categories, dtype=object)[code]
        values[rng.random(count) < UNKNOWN_SHARE] = None
        features[name] = values
    return features
