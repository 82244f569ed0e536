"""Ray as this project uses it: its start, bounded tasks and their progress, and the memory of its processes."""

from prefrec_ray.runtime.start import capacity, start_ray

__all__ = ["capacity", "start_ray"]
