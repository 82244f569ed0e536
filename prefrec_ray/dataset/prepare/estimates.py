"""Estimates from the first buckets of training users, while states are written: fatigue and expected feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import ray

from prefrec_ray.dataset.metadata import Fatigue
from prefrec_ray.dataset.prepare.states import BucketHistories, Context
from prefrec_ray.engagement.impressions import ENOUGH, REQUESTS, Impressions
from prefrec_ray.mdp.columns import scaled_feedback
from prefrec_ray.mdp.normaliser import Normaliser

if TYPE_CHECKING:
    from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

#: Impressions of training users to which the network is fitted.
_REQUESTS = 200_000


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


@ray.remote(num_cpus=1)
def feedback_network_of(
    context: Context, normaliser: Normaliser, buckets: list[int], seed: int
) -> ExpectedFeedback | None:
    """Fit the network on the first buckets (random sets of users) with enough impressions.

    Returns None for a log without feedback.
    """
    if not context.definition.feedback:
        return None
    parts: list[tuple[np.ndarray, ...]] = []
    requests = 0
    for bucket in buckets:
        histories = BucketHistories(context, bucket, split=0)
        if len(histories.table):
            feedback = scaled_feedback(histories.feedback, context.definition)
            parts.append((normaliser(histories.raw_states()), histories.actions, feedback))
            requests += len(feedback)
        if requests >= _REQUESTS:
            break
    # On demand, because the other task of this module needs no PyTorch for a small log.
    from prefrec_ray.policy.networks.expected_feedback import fit_answers

    states, actions, feedback = (np.concatenate(column)[:_REQUESTS] for column in zip(*parts, strict=True))
    return fit_answers(states, actions, feedback, context.definition.embedding_parts(), seed)
