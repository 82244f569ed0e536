"""Who is scored: the policies, and beside them those who know nothing or nothing new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone
from prefrec_ray.policy import Policy

BEHAVIOUR, IMITATION, CONSTANT, RANDOM_ITEMS = "behaviour", "imitation", "constant action", "random items"


@dataclass(frozen=True)
class Subject:
    """A line of the evaluation. `role`: "policy", "placebo" (knows nothing, should score the behaviour's value) or
    "control" (imitation; what session length alone gives). `method` is what made it, or what it was made from."""

    name: str
    method: str
    role: str


def shuffled(name: str) -> str:
    """The placebo of a policy: its own actions, in another order."""
    return f"shuffled:{name}"


def length_only(name: str) -> str:
    """The control of a policy: weights that depend on session length alone."""
    return f"length only:{name}"


def subject_of(name: str) -> str:
    """The policy that a placebo or control of its own was made from; any other name as it is."""
    return name.removeprefix(shuffled("")).removeprefix(length_only(""))


def scored_subjects(policies: Mapping[str, Policy]) -> list[Subject]:
    """Those with actions of their own, in the order of the weights."""
    found = []
    for name, policy in policies.items():
        method = str(policy.provenance.get("method", name))
        found += [Subject(name, method, "policy"), Subject(shuffled(name), method, "placebo")]
    return [
        *found,
        Subject(IMITATION, IMITATION, "control"),
        Subject(shuffled(IMITATION), IMITATION, "placebo"),
        Subject(CONSTANT, CONSTANT, "placebo"),
        Subject(RANDOM_ITEMS, RANDOM_ITEMS, "placebo"),
    ]


def check_names(names: Iterable[str]) -> None:
    """Raises `UserError` for a policy whose name a control bears."""
    for name in names:
        if name in (BEHAVIOUR, IMITATION, CONSTANT, RANDOM_ITEMS) or name.startswith((shuffled(""), length_only(""))):
            raise UserError(f"policy name '{name}': a control bears it; expected another name")


def served_for(policy: Policy, wished: np.ndarray) -> np.ndarray:
    """The embeddings [n, A] of the items that are served for actions `wished` [n, A] of the policy."""
    # With a critic the action is an item's embedding already.
    return wished if policy.critic else policy.items.embeddings[policy.items.nearest(wished, 1, policy.serving)[:, 0]]


def subject_actions(
    actions: Mapping[str, np.ndarray], clone: BehaviourClone, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Actions float32 [N, A] of every subject by name, from the policies' (and imitation's) own `actions`.

    Shuffled actions keep a policy's distribution and lose what it knows of the state; all policies are shuffled alike.
    """
    rows = len(actions[IMITATION])
    order = rng.permutation(rows)
    embeddings = clone.policy.items.embeddings
    found = dict(actions)
    found |= {shuffled(name): own[order] for name, own in actions.items()}
    found[CONSTANT] = np.broadcast_to(clone.mean_action, (rows, len(clone.mean_action)))
    found[RANDOM_ITEMS] = embeddings[rng.integers(0, len(embeddings), rows)]
    return found
