"""RLlib algorithms on prepared data sets. Importing the package registers each method under its name for Tune."""

from ray.tune.registry import register_trainable

from prefrec_ray.algorithms.bcq import BCQ, BCQConfig
from prefrec_ray.algorithms.ddpg import DDPG, DDPGConfig
from prefrec_ray.algorithms.il import IL, ILConfig
from prefrec_ray.algorithms.iql import IQL, IQLConfig
from prefrec_ray.algorithms.prefrec import PrefRec, PrefRecConfig
from prefrec_ray.algorithms.sac import SAC, SACConfig
from prefrec_ray.algorithms.td3 import TD3, TD3Config
from prefrec_ray.algorithms.td3_bc import TD3_BC, TD3BCConfig

METHODS = {
    "PrefRec": PrefRec,
    "DDPG": DDPG,
    "TD3": TD3,
    "SAC": SAC,
    "TD3_BC": TD3_BC,
    "BCQ": BCQ,
    "IQL": IQL,
    "IL": IL,
}
for _name, _method in METHODS.items():
    register_trainable(_name, _method)

__all__ = [
    "BCQ",
    "DDPG",
    "IL",
    "IQL",
    "METHODS",
    "SAC",
    "TD3",
    "TD3_BC",
    "BCQConfig",
    "DDPGConfig",
    "ILConfig",
    "IQLConfig",
    "PrefRec",
    "PrefRecConfig",
    "SACConfig",
    "TD3BCConfig",
    "TD3Config",
]
