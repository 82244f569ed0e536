"""Assignment of users to policies by a stable hash of the user id, equal on every host and after every restart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefrec_ray.ids import Stream, fraction, hash_ids
from prefrec_ray.serving.settings import ServeSettings

UserId = int | str


def arm_of(users: Sequence[UserId], settings: ServeSettings) -> np.ndarray:
    """Return the arm of each user, int64 [n]: 0 is the main arm, then the canaries in their order.

    Canaries take intervals of hashes from 0 on, in their order. If the shares before a canary stay the same, a growing
    share keeps its users.
    """
    borders = np.cumsum([arm.share for arm in settings.canaries])
    arm = np.searchsorted(borders, _place(users, settings.seed, 0), side="right") + 1
    return np.where(arm > len(settings.canaries), 0, arm)


def shadowed(users: Sequence[UserId], settings: ServeSettings) -> np.ndarray:
    """Return a mask of the shadow policies that draw for each user, bool [n, shadows], independent of the arms."""
    place = [_place(users, settings.seed, number) < arm.share for number, arm in enumerate(settings.shadows, 1)]
    return np.stack(place, axis=1) if place else np.zeros((len(users), 0), dtype=bool)


def _place(users: Sequence[UserId], seed: int, number: int) -> np.ndarray:
    """Return uniform numbers in [0, 1) for users, independent for each `number`."""
    kind = pa.string() if users and isinstance(users[0], str) else pa.int64()
    return fraction(hash_ids(pa.array(users, kind), seed, Stream.ARM, number))
