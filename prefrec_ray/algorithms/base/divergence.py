"""Detection of divergence: the first loss that is not finite ends the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prefrec_ray.errors import UserError


def first_not_finite(updates: Sequence[Mapping[str, Tensor]]) -> tuple[str, int] | None:
    """Return the first loss that was infinite or NaN, and the index of its update; None if all were finite.

    `updates`: the scalars of each update, with losses ("losses/NAME") in the order of their computation.
    """
    for index, metrics in enumerate(updates):
        for name, value in metrics.items():
            if name.startswith("losses/") and not torch.isfinite(value):
                return name.removeprefix("losses/"), index
    return None


def reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of the last iteration.

    RLlib keeps a metric of earlier iterations as NaN: the actor's loss if no update trained the actor. NaN of the last
    iteration comes with "diverged/NAME".
    """
    diverged = any(name.startswith("diverged/") and math.isfinite(value) for name, value in metrics.items())
    return {name: value for name, value in metrics.items() if diverged or not math.isnan(value)}


def stop_if_diverged(losses: Mapping[str, float], iteration: int) -> None:
    """Raise `UserError` if a loss of an iteration is not finite.

    `losses`: by "losses/NAME"; "diverged/NAME", from a learner, is the first update with such a loss.
    """
    bad = [name for name in losses if name.startswith("losses/") and not math.isfinite(losses[name])]
    if bad:
        updates = {name.removeprefix("diverged/"): at for name, at in losses.items() if name.startswith("diverged/")}
        first = min(updates, key=lambda name: updates[name]) if updates else bad[0].removeprefix("losses/")
        raise UserError(
            f"iteration {iteration}: losses/{first}: found {losses[f'losses/{first}']} first; expected finite"
            " losses: training has diverged (use smaller learning rates, or a smaller gamma)"
        )
