"""Fit of the network of expected feedback, while states are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import ray

from prefrec_ray.dataset.prepare.states import BucketHistories, Context
from prefrec_ray.mdp.columns import scaled_feedback
from prefrec_ray.mdp.normaliser import Normaliser

if TYPE_CHECKING:
    from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

#: Impressions of training users to which the network is fitted.
_REQUESTS = 200_000


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
