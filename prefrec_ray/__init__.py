"""Recommendation policies for long-term engagement, learned from preferences, trained on Ray.

Names are loaded at first use (`__init__.pyi` has their types): the import of the package loads neither Ray nor PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_METHODS = ("PrefRec", "DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL")
_PLACES = {
    **dict.fromkeys(_METHODS, "prefrec_ray.algorithms"),
    **{f"{name.replace('_', '')}Config": "prefrec_ray.algorithms" for name in _METHODS},
    "Policy": "prefrec_ray.policy",
    "PreparedDataset": "prefrec_ray.dataset",
    "UserError": "prefrec_ray.errors",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
