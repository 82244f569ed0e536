"""Ray as this project uses it: its start, bounded tasks and their progress, and the memory of its processes."""

from prefrec_ray.runtime.start import TERMINATED, capacity, end_on_sigterm, start_ray, terminated

__all__ = ["TERMINATED", "capacity", "end_on_sigterm", "start_ray", "terminated"]
