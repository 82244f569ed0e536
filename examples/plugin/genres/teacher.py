"""A teacher that prefers the segment in which the user came back more often."""

import numpy as np

from prefrec_ray.preferences import Sessions


def count_sessions(sessions: Sessions, user: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Return the number of sessions that end in each segment (user, start) of `length` impressions, float64 [n]."""
    first, end = sessions.ending_in(user, start, length)
    return (end - first).astype(np.float64)
