"""The section `evaluate` of a YAML."""

from __future__ import annotations

from typing import Literal

from prefrec_ray.evaluation.ncis import NcisSettings
from prefrec_ray.settings import Settings


class EvaluateSettings(Settings):
    """`split`: whose users are scored. `seed`: of the behaviour clone, the placebos and the bootstrap."""

    split: Literal["validation", "test"] = "test"
    seed: int = 0
    ncis: NcisSettings = NcisSettings()
