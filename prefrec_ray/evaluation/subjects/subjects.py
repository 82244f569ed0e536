"""Subjects of an evaluation and their actions: policies and controls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefrec_ray.evaluation.results.names import CONSTANT, IMITATION, RANDOM_ITEMS, Subject, shuffled
from prefrec_ray.evaluation.subjects.clone import BehaviorClone
from prefrec_ray.policy import Policy


def scored_subjects(policies: Mapping[str, Policy]) -> list[Subject]:
    """Return the subjects with own actions, in the order of the weights."""
    subjects = []
    for name, policy in policies.items():
        method = str(policy.provenance.get("method", name))
        subjects += [Subject(name, method, "policy"), Subject(shuffled(name), method, "placebo")]
    return [
        *subjects,
        Subject(IMITATION, IMITATION, "control"),
        Subject(shuffled(IMITATION), IMITATION, "placebo"),
        Subject(CONSTANT, CONSTANT, "placebo"),
        Subject(RANDOM_ITEMS, RANDOM_ITEMS, "placebo"),
    ]


def served_for(policy: Policy, actions: np.ndarray) -> np.ndarray:
    """Return the embeddings [n, A] of the items served for `actions` [n, A] of the policy."""
    # Otherwise its actions already are embeddings of items.
    return (
        actions
        if not policy.always_nearest
        else policy.items.embeddings[policy.items.nearest(actions, 1, policy.metric)[:, 0]]
    )


def subject_actions(
    actions: Mapping[str, np.ndarray], clone: BehaviorClone, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return actions float32 [N, A] of every subject by name, from the `actions` of policies and behavior cloning.

    Shuffled actions keep a policy's distribution and do not depend on the state. All policies have the same shuffle.
    """
    rows = len(actions[IMITATION])
    order = rng.permutation(rows)
    embeddings = clone.policy.items.embeddings
    return {
        **actions,
        **{shuffled(name): own[order] for name, own in actions.items()},
        CONSTANT: np.broadcast_to(clone.mean_action, (rows, len(clone.mean_action))),
        RANDOM_ITEMS: embeddings[rng.integers(0, len(embeddings), rows)],
    }
