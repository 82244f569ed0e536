"""Rotated transitions: what a Q learns of the directions that a log shows holds for those that it does not show.

Where tastes turn, a log shows few of the directions that users will be on. A Q fitted to it knows along which axes
items were good, and is wrong once tastes have turned on; of rotated transitions, only what a user answered to is left
to tell items apart (docs/recipe.md). A share of a batch stays as it is: where tastes do not turn, axes are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.batches import TransitionPlan, generator
from prefrec_ray.algorithms.feed.columns import ACTIONS, NEXT_OBS, OBS
from prefrec_ray.algorithms.feed.transfer import to_device
from prefrec_ray.ids import Stream
from prefrec_ray.mdp.normaliser import CLIP


@dataclass(frozen=True)
class Rotation:
    """Rotates, in a `share` of the rows of a batch, the action and all parts of the states that embeddings make.

    `columns`: those of the state, A by A, with their scale `mean`, `std` [P, A]; `low`, `high`: bounds of an action, at
    which a rotated one is clipped.
    """

    share: float
    columns: slice
    mean: Tensor
    std: Tensor
    low: float
    high: float

    @classmethod
    def of(cls, settings: Mapping[str, Any], low: float, high: float, device: torch.device) -> Rotation | None:
        """That of a module's `model_config`; None where nothing is rotated."""
        if not settings.get("rotations"):
            return None
        (first, last), mean, std = settings["embedding_columns"]
        scale = (torch.tensor(part, dtype=torch.float32, device=device) for part in (mean, std))
        return cls(settings["rotations"], slice(first, last), next(scale), next(scale), float(low), float(high))

    def of_batch(self, batch: dict[str, Tensor], plan: TransitionPlan, update: int) -> dict[str, Tensor]:
        """The batch of an `update`: the same rows, and the same rotation, on any number of learners."""
        device = batch[ACTIONS].device
        rows = np.flatnonzero(plan.drawn(update, Stream.ROTATED, lambda rng, rows: rng.random(rows)) < self.share)
        matrix = rotation(batch[ACTIONS].shape[1], generator(plan.seed, update, 0, Stream.ROTATION))
        return self(batch, to_device(torch.from_numpy(rows), device), to_device(torch.from_numpy(matrix), device))

    def __call__(self, batch: dict[str, Tensor], rows: Tensor, matrix: Tensor) -> dict[str, Tensor]:
        """The batch with its `rows` rotated by `matrix` [A, A]."""
        actions = (batch[ACTIONS][rows] @ matrix).clip(self.low, self.high)
        rotated = {**batch, ACTIONS: batch[ACTIONS].index_copy(0, rows, actions)}
        scaled, shift = self._scaled(matrix)
        for name in (OBS, NEXT_OBS):
            if name in batch:
                rotated[name] = batch[name].clone()
                part = rotated[name][:, self.columns]
                part.index_copy_(0, rows, torch.addmm(shift, part[rows], scaled).clip_(-CLIP, CLIP))
        return rotated

    def _scaled(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """What scaled columns [n, P * A] are multiplied by, [P * A, P * A], and what is added, [P * A]."""
        blocks = self.std[:, :, None] * matrix / self.std[:, None]
        return torch.block_diag(*blocks), ((self.mean @ matrix - self.mean) / self.std).flatten()


def rotation(dim: int, rng: np.random.Generator) -> np.ndarray:
    """An orthogonal matrix float32 [dim, dim], uniform among all (Stewart 1980)."""
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (q * np.sign(np.diag(r))).astype(np.float32)
