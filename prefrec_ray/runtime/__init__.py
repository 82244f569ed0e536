"""Ray as this project uses it: its start, bounded tasks, and the memory of the processes it starts."""

from prefrec_ray.runtime.start import capacity, start_ray

__all__ = ["capacity", "start_ray"]
