"""Ray for this project: start, bounded tasks with progress, memory of processes."""

from prefrec_ray.runtime.start import TERMINATED, capacity, end_on_sigterm, start_ray, terminated

__all__ = ["TERMINATED", "capacity", "end_on_sigterm", "start_ray", "terminated"]
