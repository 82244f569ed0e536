"""What a run asks of a cluster, and whether the cluster has it: Ray would wait for it for ever."""

from __future__ import annotations

from collections.abc import Mapping

from prefrec_ray import runtime
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.errors import UserError


def of_learner(training: TrainingSettings) -> dict[str, float]:
    """What each learner process of a run asks for; without such processes, what the run's own process needs."""
    cpus, gpus = training.num_cpus_per_learner, float(training.num_gpus_per_learner)
    if not training.num_learners:
        return {"GPU": gpus}
    own = {"CPU": float(cpus) if isinstance(cpus, int | float) else float(not gpus), "GPU": gpus}
    return {**own, **training.custom_resources_per_learner}


def check_fits(required: Mapping[str, float], who: str, keys: str) -> None:
    """Raises `UserError`, which begins with `who`, where more is `required` than the cluster has.

    `keys`: the settings that ask for it.
    """
    capacity = runtime.capacity()
    for kind, amount in required.items():
        if amount > capacity.get(kind, 0):
            raise UserError(
                f"{who} asks for {amount:g} {kind}, the cluster has {capacity.get(kind, 0):g}; "
                f"expected less ({keys}) or a larger cluster"
            )
