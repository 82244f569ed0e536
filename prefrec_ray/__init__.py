"""Recommendation policies for long-term engagement, learned from preferences, trained on Ray.

Names come when they are asked for: neither Ray nor PyTorch is imported with the package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefrec_ray.algorithms import BCQ, DDPG, IL, IQL, SAC, TD3, TD3_BC, PrefRec
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.errors import UserError
    from prefrec_ray.policy import Policy

__version__ = "0.1.0"

_METHODS = ("PrefRec", "DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL")
_PLACES = {
    **dict.fromkeys(_METHODS, "prefrec_ray.algorithms"),
    **{f"{name.replace('_', '')}Config": "prefrec_ray.algorithms" for name in _METHODS},
    "Policy": "prefrec_ray.policy",
    "PreparedDataset": "prefrec_ray.dataset",
    "UserError": "prefrec_ray.errors",
}

__all__ = ["BCQ", "DDPG", "IL", "IQL", "SAC", "TD3", "TD3_BC", "Policy", "PrefRec", "PreparedDataset", "UserError"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
