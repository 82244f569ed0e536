"""Training that diverges: which loss went first, and the line that ends the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prefrec_ray.errors import UserError


def first_not_finite(metrics: Mapping[str, Sequence[Tensor]]) -> tuple[str, int] | None:
    """The loss that first was infinite or no number, and the index of that update; None where none was.

    `metrics`: scalars, one for each update, the losses ("losses/NAME") in the order in which an update computes them.
    """
    first: dict[str, int] = {}
    for name, values in metrics.items():
        group, _, loss = name.partition("/")
        broken = (~torch.stack(list(values)).isfinite()).nonzero()
        if group == "losses" and len(broken):
            first[loss] = int(broken[0])
    return min(first.items(), key=lambda item: item[1]) if first else None


def stop_if_diverged(losses: Mapping[str, float], iteration: int) -> None:
    """Raises `UserError` where a loss of an iteration is not finite.

    `losses` by "losses/NAME"; where learners have said which went first, with "diverged/NAME", its update.
    """
    bad = [name for name in losses if name.startswith("losses/") and not math.isfinite(losses[name])]
    if bad:
        told = {name.removeprefix("diverged/"): at for name, at in losses.items() if name.startswith("diverged/")}
        first = min(told, key=lambda name: told[name]) if told else bad[0].removeprefix("losses/")
        raise UserError(
            f"iteration {iteration}: losses/{first} is {losses[f'losses/{first}']}, the first to go: training has"
            f" diverged; expected finite losses (smaller learning rates, or a smaller gamma)"
        )
