"""Estimate of fatigue, while states are written."""

from __future__ import annotations

import numpy as np
import ray

from prefrec_ray.dataset.metadata import Fatigue
from prefrec_ray.dataset.prepare.states import BucketHistories, Context
from prefrec_ray.engagement.impressions import ENOUGH, REQUESTS, Impressions


@ray.remote(num_cpus=1)
def fatigue_of(context: Context, buckets: list[int], seed: int) -> Fatigue | None:
    """Estimate fatigue from the first buckets (random sets of users) with enough impressions of training users.

    Returns None if the log has too few.
    """
    parts: list[Impressions] = []
    requests = 0
    for bucket in buckets:
        histories = BucketHistories(context, bucket, split=0)
        session, timestamp = (histories.table[name].to_numpy() for name in ("session", "timestamp"))
        shown = Impressions(histories.starts, histories.actions, session, timestamp, histories.feedback)
        parts.append(shown.beginnings())
        requests += len(parts[-1].timestamp)
        if requests >= REQUESTS:
            break
    if requests < ENOUGH:
        return None
    from prefrec_ray.engagement.fatigue import estimate

    estimated = estimate(Impressions.concatenate(parts), seed)
    if estimated is None or not np.isfinite(estimated.parts).all():
        return None
    variety = None if estimated.variety is None else round(estimated.variety, 1)
    return Fatigue(variety=variety, error=round(estimated.error, 1), half_life=estimated.half_life)
