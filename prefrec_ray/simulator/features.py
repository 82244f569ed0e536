"""User features: a few hints at the users' traits among many features that are independent of them."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

# With six feedback columns these make the state 245 wide: 66 + 13 * 6 + 89 categories + 12 unknowns.
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


def draw_features(hints: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one string per user and feature (object arrays [n], None if unknown).

    `hints` maps features to standard normal traits [n]: such a feature is the trait plus noise of equal variance, in
    bands of equal probability. All others are independent of the user; low categories are more common (1 / rank).
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
