"""Weighted draws without replacement, with probabilities given the earlier draws (Plackett 1975; Luce 1959)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

#: Columns from which a row is searched.
_LONG = 512


class RandomNumbers(Protocol):
    """Source of the random numbers of a draw: a generator of NumPy, or one per row."""

    def random(self, size: int) -> np.ndarray:
        """Return uniform numbers [size] in [0, 1)."""

    def gumbel(self, *, size: tuple[int, int]) -> np.ndarray:
        """Return standard Gumbel numbers of this shape."""


class OwnGenerators:
    """One generator for each of n rows, so that the draw of a row does not depend on the other rows."""

    def __init__(self, rngs: Sequence[np.random.Generator]) -> None:
        self._rngs = rngs

    def random(self, size: int) -> np.ndarray:
        """Return one number per row, [n]."""
        return np.array([rng.random() for rng in self._rngs])

    def gumbel(self, *, size: tuple[int, int]) -> np.ndarray:
        """Return numbers [n, m] of a `size` [n, m]."""
        return np.stack([rng.gumbel(size=size[1]) for rng in self._rngs])


def plackett_luce(logits: np.ndarray, k: int, rng: RandomNumbers) -> tuple[np.ndarray, np.ndarray]:
    """Draw k columns without replacement from each row of `logits` [n, m]; return columns and probabilities [n, k].

    A column is drawn with a probability proportional to exp(logit) among the remaining columns; -inf is never drawn. At
    least k logits per row must be finite. The k largest of logits plus Gumbel noise are such a draw (Kool et al. 2019).
    """
    if k == 1:  # one random number per row instead of one per column
        weights = np.subtract(logits, logits.max(axis=1, keepdims=True), dtype=np.float64)
        np.exp(weights, out=weights)
        column, probability = draw(weights, rng)
        return column[:, None], probability[:, None]
    noisy = logits + rng.gumbel(size=logits.shape)
    columns = np.argpartition(-noisy, k - 1, axis=1)[:, :k]
    order = np.take_along_axis(noisy, columns, axis=1).argsort(axis=1)[:, ::-1]
    columns = np.take_along_axis(columns, order, axis=1)
    chosen = np.take_along_axis(logits, columns, axis=1).astype(np.float64)
    rest = logits.astype(np.float64)
    np.put_along_axis(rest, columns, -np.inf, axis=1)
    never = log_sum_exp(rest)
    # The remaining columns before a position: columns never drawn, and columns drawn at this position or later.
    later = np.concatenate([never[:, None], chosen[:, ::-1]], axis=1)
    left = np.logaddexp.accumulate(later, axis=1)[:, :0:-1]
    return columns, np.exp(chosen - left)


def draw(weights: np.ndarray, rng: RandomNumbers) -> tuple[np.ndarray, np.ndarray]:
    """Draw a column per row of `weights` [n, m], one above 0; return columns int64 [n] and probabilities [n]."""
    running = np.cumsum(weights, axis=1, dtype=np.float64)
    at = rng.random(len(weights)) * running[:, -1]
    every = np.arange(len(weights))
    if weights.shape[1] > _LONG:  # the search in a long row takes less time than the comparison with all of it
        column = np.array([row.searchsorted(end, "right") for row, end in zip(running, at, strict=True)], np.int64)
    else:
        column = (running <= at[:, None]).sum(axis=1)
    # Rounding may reach the end, where weights may be 0; the last weight above 0 is then drawn.
    column = np.minimum(column, weights.shape[1] - 1)
    for row in np.flatnonzero(weights[every, column] == 0).tolist():
        column[row] = np.flatnonzero(weights[row])[-1]
    return column, weights[every, column] / running[:, -1]


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Return the log of the sum of exp of each row [..., m]; -inf for a row without a finite number."""
    largest = values.max(axis=-1, initial=-np.inf)
    safe = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return safe + np.log(np.exp(values - safe[..., None]).sum(axis=-1))
