"""Loop over impressions, in which a server shows items to a crowd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.simulator.law import SimulatedCrowd
from prefrec_ray.simulator.servers import CrowdServer


@dataclass(frozen=True)
class History:
    """Impressions of n users, in lock-step; every array is [n, requests], `feedback` [n, requests, columns]."""

    time_ms: np.ndarray  # int64
    rows: np.ndarray  # int64, of the item table
    feedback: np.ndarray  # float32
    satisfaction: np.ndarray  # float32, after the impression
    session: np.ndarray  # int64, from 0 for each user
    propensity: np.ndarray  # float32, probability of the item among the items that are not excluded
    made: np.ndarray  # bool; False after a user has left for good


def roll_out(crowd: SimulatedCrowd, server: CrowdServer, requests: int) -> History:
    """Simulate `requests` impressions of every user in `crowd`, served by `server`.

    Raises `UserError` if the rules of the world exclude all items.
    """
    shape = (requests, len(crowd.time_ms))
    # The axis of steps comes first while arrays are filled, so that every step writes contiguous memory.
    time_ms, rows, session = (np.empty(shape, np.int64) for _ in range(3))
    feedback, satisfaction = np.empty((*shape, len(crowd.world.feedback)), np.float32), np.empty(shape, np.float32)
    propensity, made = np.empty(shape, np.float32), np.empty(shape, bool)
    number = np.zeros(shape[1], np.int64)
    for step in range(requests):
        now, excluded = crowd.time_ms, crowd.excluded()
        if excluded is not None and excluded.all(axis=1).any():
            raise UserError(
                f"simulate: found no items left for a user after {step} impressions; expected fewer impressions"
            )
        time_ms[step], session[step], made[step] = now, number, ~crowd.gone
        rows[step], propensity[step] = server.serve(now, excluded)
        response = crowd.show(rows[step])
        server.observe(now, rows[step], response.feedback)
        feedback[step], satisfaction[step] = response.feedback, response.satisfaction
        number = number + response.leaves
    return History(time_ms.T, rows.T, feedback.transpose(1, 0, 2), satisfaction.T, session.T, propensity.T, made.T)
