"""Ray for this project: start, and bounded tasks with progress."""

from prefrec_ray.runtime.start import SUBMITTED, TERMINATED, check_fits, end_on_sigterm, start_ray, terminated
