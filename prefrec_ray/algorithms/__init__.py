"""Training methods as RLlib algorithms on prepared data sets. Importing a method from here registers all with Tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefrec_ray.algorithms.methods import SETTINGS, find_method

if TYPE_CHECKING:
    from prefrec_ray.algorithms.bcq import BCQ
    from prefrec_ray.algorithms.ddpg import DDPG
    from prefrec_ray.algorithms.il import IL
    from prefrec_ray.algorithms.iql import IQL
    from prefrec_ray.algorithms.prefrec import PrefRec
    from prefrec_ray.algorithms.sac import SAC
    from prefrec_ray.algorithms.td3 import TD3, TD3_BC

__all__ = ["BCQ", "DDPG", "IL", "IQL", "METHODS", "SAC", "TD3", "TD3_BC", "PrefRec"]

#: The config of each method, `PrefRecConfig` and so on, is `PrefRec.Config`.
CONFIGS = {f"{name.replace('_', '')}Config": name for name in SETTINGS}


def __getattr__(name: str) -> Any:
    # Imported on demand, because checking a YAML and serving a policy do not need Ray.
    if name == "METHODS":
        return {method: find_method(method) for method in SETTINGS}
    if name in SETTINGS or name in CONFIGS:
        methods = __getattr__("METHODS")
        return methods[name] if name in SETTINGS else methods[CONFIGS[name]].Config
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
