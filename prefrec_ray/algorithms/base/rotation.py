"""Rotated transitions: Q learns from the logged directions of tastes for directions that are not in the log.

If tastes turn, a log shows few of the directions that users will take. A Q fitted to it learns the axes along which
items were good, and is wrong after tastes have turned. In rotated transitions, items differ only by the feedback of the
user (docs/recipe.md). A share of a batch is not rotated: if tastes do not turn, the axes are right.

A rotation here is a signed permutation of the axes. These are all the orthogonal matrices that map the box of actions
onto itself, so that no rotated action leaves it or has to be clipped. The inner product is the only bilinear function
of two vectors that all of them leave unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.batches import TransitionPlan, generator, to_device
from prefrec_ray.algorithms.feed.shards import ACTIONS, NEXT_OBS, OBS
from prefrec_ray.ids import Stream


@dataclass(frozen=True)
class Rotation:
    """Rotates the action and all embeddings in the states, in a `share` of the rows of a batch.

    `columns` are these parts of the state, P parts of A columns each, with their scale `mean`, `std` [P, A].
    """

    share: float
    columns: slice
    mean: Tensor
    std: Tensor

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], device: torch.device) -> Rotation | None:
        """Return the rotation of a module's `model_config`, or None if nothing is rotated."""
        if not settings.get("rotations"):
            return None
        (first, last), mean, std = settings["embedding_columns"]
        scale = (torch.tensor(part, dtype=torch.float32, device=device) for part in (mean, std))
        return cls(settings["rotations"], slice(first, last), next(scale), next(scale))

    def of_batch(self, batch: dict[str, Tensor], plan: TransitionPlan, update: int) -> dict[str, Tensor]:
        """Rotate the batch of an `update`: the same rows by the same matrix on any number of learners."""
        device = batch[ACTIONS].device
        rows = np.flatnonzero(plan.drawn(update, Stream.ROTATED, lambda rng, rows: rng.random(rows)) < self.share)
        matrix = rotation(batch[ACTIONS].shape[1], generator(plan.seed, update, 0, Stream.ROTATION))
        return self(batch, to_device(torch.from_numpy(rows), device), to_device(torch.from_numpy(matrix), device))

    def __call__(self, batch: dict[str, Tensor], rows: Tensor, matrix: Tensor) -> dict[str, Tensor]:
        """Return the batch with its `rows` rotated by `matrix` [A, A]."""
        rotated = {**batch, ACTIONS: batch[ACTIONS].index_copy(0, rows, batch[ACTIONS][rows] @ matrix)}
        scaled, shift = self._scaled(matrix)
        for name in (OBS, NEXT_OBS):
            if name in batch:
                rotated[name] = batch[name].clone()
                part = rotated[name][:, self.columns]
                part.index_copy_(0, rows, torch.addmm(shift, part[rows], scaled))
        return rotated

    def _scaled(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrix [P * A, P * A] and the shift [P * A] that rotate scaled columns [n, P * A]."""
        blocks = self.std[:, :, None] * matrix / self.std[:, None]
        return torch.block_diag(*blocks), ((self.mean @ matrix - self.mean) / self.std).flatten()


def rotation(dim: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a signed permutation matrix, float32 [dim, dim], uniformly from all 2^dim dim! of them."""
    matrix = np.zeros((dim, dim), np.float32)
    matrix[np.arange(dim), rng.permutation(dim)] = rng.choice([-1.0, 1.0], dim)
    return matrix
