"""Check of the resources of a run against the cluster. Ray would wait for missing resources forever."""

from __future__ import annotations

from collections.abc import Mapping

from prefrec_ray import runtime
from prefrec_ray.errors import UserError


def check_fits(required: Mapping[str, float], who: str, keys: str) -> None:
    """Raise `UserError`, prefixed by `who`, if more resources are `required` than the cluster has.

    `keys`: the settings that request them.
    """
    capacity = runtime.capacity()
    for kind, amount in required.items():
        if amount > capacity.get(kind, 0):
            raise UserError(
                f"{who} asks for {amount:g} {kind}, the cluster has {capacity.get(kind, 0):g}; "
                f"expected less ({keys}) or a larger cluster"
            )
