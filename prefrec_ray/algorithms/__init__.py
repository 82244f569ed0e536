"""Training methods as RLlib algorithms on prepared data sets, by name: eight of this package, and those of plug-ins.

Importing this package imports no method, and neither Ray nor PyTorch. `from prefrec_ray.algorithms import PrefRec`
imports all methods of the package, and registers them with Tune.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from prefrec_ray import plugins
from prefrec_ray.algorithms.settings import (
    BCQSettings,
    CloningSettings,
    ExpectileSettings,
    IQLSettings,
    TD3BCSettings,
    TD3Settings,
    TrainingSettings,
)
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
    from prefrec_ray.algorithms.bcq import BCQ
    from prefrec_ray.algorithms.ddpg import DDPG
    from prefrec_ray.algorithms.il import IL
    from prefrec_ray.algorithms.iql import IQL
    from prefrec_ray.algorithms.prefrec import PrefRec
    from prefrec_ray.algorithms.sac import SAC
    from prefrec_ray.algorithms.td3 import TD3, TD3_BC

__all__ = ["BCQ", "DDPG", "IL", "IQL", "METHODS", "SAC", "TD3", "TD3_BC", "PrefRec"]

#: Settings by name of the method.
SETTINGS: dict[str, type[TrainingSettings]] = {
    "PrefRec": ExpectileSettings,
    "DDPG": TrainingSettings,
    "TD3": TD3Settings,
    "SAC": TrainingSettings,
    "TD3_BC": TD3BCSettings,
    "BCQ": BCQSettings,
    "IQL": IQLSettings,
    "IL": CloningSettings,
}
#: The class of a method is in the module of the same name in lower case, without the part "_BC".
PATHS = {name: f"prefrec_ray.algorithms.{name.removesuffix('_BC').lower()}:{name}" for name in SETTINGS}
#: `PrefRecConfig` and so on are `PrefRec.Config`.
CONFIGS = {f"{name.replace('_', '')}Config": name for name in SETTINGS}


def find_settings(method: str, where: str = "") -> type[TrainingSettings]:
    """Return the settings of `method`, a name or `module:Class`. Raises `UserError` as `find_method` does."""
    if method not in SETTINGS:
        return find_method(method, where).Settings
    plugins.check("methods", method, f"{where}key 'method'", PATHS)  # one package has the name
    return SETTINGS[method]


@cache
def find_method(method: str, where: str = "") -> type[OfflineAlgorithm]:
    """Return the class of `method`, and register it with Tune under its `method_name`.

    Raises `UserError`, prefixed by `where`, for an unknown name, a module that cannot be imported, or a class that is
    not a method.
    """
    from ray.tune.registry import register_trainable

    from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm

    cls = plugins.load("methods", method, f"{where}key 'method'", PATHS)
    if not (isinstance(cls, type) and issubclass(cls, OfflineAlgorithm)):
        raise UserError(f"{where}key 'method': '{method}' is not a method; expected a subclass of OfflineAlgorithm")
    register_trainable(cls.method_name, cls)
    return cls


def __getattr__(name: str) -> Any:
    # Imported on demand, because checking a YAML and serving a policy do not need Ray.
    if name == "METHODS":
        return {method: find_method(method) for method in SETTINGS}
    if name in SETTINGS or name in CONFIGS:
        methods = __getattr__("METHODS")
        return methods[name] if name in SETTINGS else methods[CONFIGS[name]].Config
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
