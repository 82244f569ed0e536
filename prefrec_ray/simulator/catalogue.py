"""Items of the simulator's law: embeddings, clickbait degrees, and the times at which they are available."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS, ITEMS, generator
from prefrec_ray.simulator.settings import EMBEDDING_DIM, SimulateSettings


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), with the precision of `x`."""
    return 1.0 / (1.0 + np.exp(-x))


class Catalogue:
    """Items under `settings`; equal settings make equal items."""

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
