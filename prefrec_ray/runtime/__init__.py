"""Ray for this project: start, bounded tasks with progress, memory of processes."""

from prefrec_ray.runtime.start import TERMINATED, check_fits, end_on_sigterm, start_ray, terminated

__all__ = ["TERMINATED", "check_fits", "end_on_sigterm", "start_ray", "terminated"]
