"""Methods by name: eight of this package, and those of plug-ins; a user's own by `module:Class`.

Importing this module imports no method, and neither Ray nor PyTorch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

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
