"""The section `evaluate` of a YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefrec_ray.evaluation.fqe import FqeSettings
from prefrec_ray.evaluation.ncis import NcisSettings
from prefrec_ray.settings import Settings

Estimator = Literal["ncis", "fqe", "dr"]


class EvaluateSettings(Settings):
    """`split`: whose users are scored. `seed`: of the behaviour clone, the placebos, the networks and the bootstrap.

    `estimators`: of `ncis`, `fqe` (fitted-Q evaluation) and `dr` (doubly robust); the last two fit a network for every
    policy and placebo, some seconds each.
    """

    split: Literal["validation", "test"] = "test"
    seed: int = 0
    estimators: tuple[Estimator, ...] = Field(default=("ncis",), min_length=1)
    ncis: NcisSettings = NcisSettings()
    fqe: FqeSettings = FqeSettings()
