"""A short-video platform with a known truth: it writes logs, and rolls policies out."""

from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.write import simulate

__all__ = ["SimulateSettings", "WorldSettings", "simulate"]
