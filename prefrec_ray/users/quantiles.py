"""Quantile bins of a number, with which a classifier can draw from any distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import run_lengths

BINS = 16
#: Largest number of values from which bins are made and drawn.
_KEPT = 50_000


@dataclass(frozen=True)
class Bins:
    """Bins of ascending `values` [n]. Bin k starts at `first[k]`; `edges` [K] are the lowest values of the bins."""

    values: np.ndarray
    edges: np.ndarray
    first: np.ndarray

    @classmethod
    def from_values(cls, values: np.ndarray, rng: np.random.Generator) -> Bins:
        """Create bins with equal shares of `values` (at least one value), or one bin per value if there are few."""
        kept = np.sort(values if len(values) <= _KEPT else rng.choice(values, _KEPT, replace=False))
        unique = np.unique(kept)
        edges = unique if len(unique) <= BINS else np.unique(kept[np.arange(BINS) * len(kept) // BINS])
        return cls(kept, edges, np.searchsorted(kept, edges))

    def __len__(self) -> int:
        return len(self.edges)

    def code(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of each value, int64 [n]. Values below the lowest edge are in the first bin."""
        return np.maximum(np.searchsorted(self.edges, values, side="right") - 1, 0)

    def draw(self, logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draw values [n]: a bin by the softmax of `logits` [n, K], then any of its values.

        `uniform` [2, n] is below 1.
        """
        weights = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64).cumsum(axis=1)
        bins = (weights <= (uniform[0] * weights[:, -1])[:, None]).sum(axis=1).clip(0, len(self) - 1)
        count = run_lengths(self.first, len(self.values))[bins]
        return self.values[self.first[bins] + (uniform[1] * count).astype(np.int64)]
