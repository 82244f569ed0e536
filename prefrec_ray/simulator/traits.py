"""Hidden traits of simulated users, and their features: a few hints at the traits among many independent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr

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
