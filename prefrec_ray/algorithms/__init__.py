"""RLlib algorithms on prepared data sets. Importing the package registers each method under its name for Tune."""

from ray.tune.registry import register_trainable

from prefrec_ray.algorithms.prefrec import PrefRec, PrefRecConfig

METHODS = {"PrefRec": PrefRec}
for _name, _method in METHODS.items():
    register_trainable(_name, _method)

__all__ = ["METHODS", "PrefRec", "PrefRecConfig"]
