"""Choice between the simulator's law and a user's own."""

from __future__ import annotations

from prefrec_ray.errors import UserError
from prefrec_ray.plugins import import_class
from prefrec_ray.simulator.law import SimulatedWorld
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World

#: Attributes of a class that is a law.
ATTRIBUTES = ("feedback", "categories", "controls", "items", "crowd", "logging_policy")


def load_world(settings: SimulateSettings) -> SimulatedWorld:
    """Return the world of `settings`. Raises `UserError` for a law that cannot be imported or lacks an attribute."""
    law = settings.world.law
    if law is None:
        return World(settings)
    make = import_class(law, "simulate.world")
    missing = [name for name in ATTRIBUTES if not hasattr(make, name)]
    if missing:
        raise UserError(f"simulate.world: found '{law}' without '{missing[0]}'; expected module:Class of a law")
    world: SimulatedWorld = make(settings)
    return world
