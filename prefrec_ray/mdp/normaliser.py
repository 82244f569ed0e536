"""Scaling of states by the mean and standard deviation of the training users' impressions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import ConfigDict

from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse

CLIP = 5.0
#: Relative to 1 + |mean|: a smaller standard deviation is a rounding error of a constant column.
_CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Normaliser:
    """clip((x - mean) / std, -5, 5) by column, float64 [width] each. Raises `UserError` for an unusable mean or std."""

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        if self.mean.shape != self.std.shape or self.mean.ndim != 1:
            raise UserError(
                f"key 'normaliser': found mean of shape {self.mean.shape}, std of {self.std.shape}; expected one length"
            )
        with np.errstate(all="ignore"):
            usable = (self.std > 0).all() and np.isfinite(self._float32).all()
        if not usable:
            raise UserError("key 'normaliser': a mean or std is not finite in float32, or a std is not positive")

    def __call__(self, raw: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return scaled states, float32 [n, width], in `out`, which may be `raw`, or in a new array."""
        shift, scale = self._float32
        scaled = np.subtract(raw, shift, out=out, dtype=np.float32)
        scaled *= scale
        return np.clip(scaled, -CLIP, CLIP, out=scaled)

    def equals(self, other: Normaliser) -> bool:
        """Return True if both scale states identically, bit for bit."""
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.std, other.std)

    def rescaling(self, other: Normaliser) -> np.ndarray:
        """Return factor and shift, float32 [2, width], that convert states scaled by `other` to this scale.

        clip(x * factor + shift, -5, 5) is exact except for values that `other` clipped.
        """
        return np.stack([other.std, other.mean - self.mean]).astype(np.float32) / self.std.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, value: Any, where: str) -> Normaliser:
        """Return the normaliser of a `to_dict`, exact to the bit. Raises `UserError`, which begins with `where`."""
        written = parse(_NormaliserSchema, value, where, "normaliser.")
        try:
            return cls(np.array(written.mean, dtype=np.float64), np.array(written.std, dtype=np.float64))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    @cached_property
    def _float32(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean.astype(np.float32), (1.0 / self.std).astype(np.float32)


class _NormaliserSchema(Settings):
    """Schema of the result of `to_dict`."""

    model_config = ConfigDict(strict=True)

    mean: list[float]
    std: list[float]


@dataclass
class Moments:
    """Count, sum and sum of squares by column, in float64: summed per partition and merged for a normaliser."""

    count: int
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def zero(cls, width: int) -> Moments:
        """Return moments of no rows."""
        return cls(0, np.zeros(width), np.zeros(width))

    def add(self, rows: np.ndarray) -> None:
        """Add `rows` [n, width]."""
        self.count += len(rows)
        self.total += rows.sum(axis=0, dtype=np.float64)
        self.squares += np.einsum("ij,ij->j", rows, rows, dtype=np.float64)

    def merge(self, other: Moments) -> None:
        """Add the moments of `other`."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def normaliser(self, one_hot: slice = slice(0)) -> Normaliser:
        """Return the normaliser of all rows; constant and `one_hot` columns keep scale 1; `UserError` without rows."""
        if self.count == 0:
            raise UserError("normaliser: found no rows of training users; expected some to fit it")
        mean = self.total / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        std[std <= _CONSTANT * (1.0 + np.abs(mean))] = 1.0
        # Divided by its deviation, a rare category would be 5 or more. Networks would then memorise single users and be
        # wrong for all others (docs/recipe.md).
        std[one_hot] = 1.0
        return Normaliser(mean, std)
