"""Weighted draws without replacement, with probabilities given the earlier draws (Plackett 1975; Luce 1959)."""

from __future__ import annotations

import numpy as np


def plackett_luce(logits: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw k columns without replacement from each row of `logits` [n, m]; return columns and probabilities [n, k].

    A column is drawn with a probability proportional to exp(logit) among the remaining columns; -inf is never drawn. At
    least k logits per row must be finite. The k largest of logits plus Gumbel noise are such a draw (Kool et al. 2019).
    """
    if k == 1:  # one random number per row instead of one per column
        weights = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
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


def draw(weights: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a column per row of `weights` [n, m], one above 0; return columns int64 [n] and probabilities [n]."""
    running = np.cumsum(weights, axis=1, dtype=np.float64)
    at = rng.random(len(weights)) * running[:, -1]
    column = (running <= at[:, None]).sum(axis=1)
    # Rounding may reach the end, where weights are 0; the last weight above 0 is then drawn.
    last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    column = np.minimum(column, last)
    return column, np.take_along_axis(weights, column[:, None], axis=1)[:, 0] / running[:, -1]


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Return the log of the sum of exp of each row [..., m]; -inf for a row without a finite number."""
    largest = values.max(axis=-1, initial=-np.inf)
    safe = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return safe + np.log(np.exp(values - safe[..., None]).sum(axis=-1))
