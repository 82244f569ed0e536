"""A server for tests of worlds that exclude items."""

from __future__ import annotations

import numpy as np

from prefrec_ray.simulator.law import Choice, CrowdServer


class NeverExcluded:
    """A server that fails if it shows an excluded item."""

    def __init__(self, server: CrowdServer) -> None:
        self.server = server

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        choice = self.server.serve(time_ms, excluded)
        if excluded is not None:
            assert not excluded[np.arange(len(time_ms)), choice.rows].any()
        return choice

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        self.server.observe(time_ms, rows, feedback)
