"""The mean Q of the last nights, because nights differ and states depend on the policy that served before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.critic import Critic, some

_LOG = logging.getLogger(__name__)
#: The file of a bundle that is written last.
_LAST = "policy.json"
#: States and items from which the spread of a Q is computed.
_STATES, _ITEMS = 256, 1000


def average(bundle: str, before: Sequence[str], dataset: str, folder: str) -> str:
    """Write the policy of `bundle`, trained on `dataset`, with the mean Q of itself and of the bundles `before`.

    Each Q is divided by its spread over the items, since a learned reward has no unit. Policies `before` with other
    states, inner products or embeddings, and policies with the same Q for all items, are excluded. Returns `folder`, or
    `bundle` if no other policy is left. A `folder` from before a kill is kept.
    """
    if storage.exists(storage.join(folder, _LAST)):
        return folder
    storage.remove(folder)  # in a store: objects that arrived before a kill
    own = Policy.load(bundle)
    if own.critic is None or own.serving.candidates == "nearest":
        return bundle
    policies = [own, *(policy for policy in _loaded(before) if _alike(policy, own))]
    states = _states(dataset)
    critics = [_on_scale_of(own, policy) for policy in policies]
    spreads = [_spread(critic, own.items.embeddings, states) for critic in critics]
    kept = [each for each in zip(policies, critics, spreads, strict=True) if each[2] > 0]
    if len(kept) < 2:
        return bundle
    mean = replace(
        critics[0],
        networks=[network.scaled(1 / spread) for _, critic, spread in kept for network in critic.networks],
        scales=np.concatenate([critic.scales for _, critic, _ in kept]),
        kind_effects=_mean_effects([(critic, spread) for _, critic, spread in kept]),
    )
    # The expected feedback is from the last night; its weight is fitted to the mean Q.
    mean = mean.with_worth(states, some(own.items.embeddings, _ITEMS))
    provenance = {**own.provenance, "averaged": [str(policy.provenance["dataset"]) for policy, *_ in kept]}
    replace(own, critic=mean, provenance=provenance).save(folder)
    return folder


def _loaded(bundles: Sequence[str]) -> Iterator[Policy]:
    """Load the policies that still exist; a damaged one is skipped with a warning."""
    for bundle in bundles:
        if storage.exists(storage.join(bundle, _LAST)):
            try:
                yield Policy.load(bundle)
            except UserError as error:
                _LOG.warning("skipped in the mean Q: %s", error)


def _alike(policy: Policy, own: Policy) -> bool:
    if policy.critic is None or own.critic is None or policy.state != own.state:
        return False
    same_products = np.array_equal(policy.critic.networks[0].products, own.critic.networks[0].products)
    return same_products and own.items.same_embeddings(policy.items)


def _states(dataset: str) -> np.ndarray:
    """Return the states of some impressions."""
    opened = PreparedDataset.open(dataset)
    states = tensor(opened.read(opened.files("transitions")[0], ["obs"])["obs"])
    return np.asarray(some(states, _STATES), np.float32)


def _on_scale_of(own: Policy, policy: Policy) -> Critic:
    """Return the critic of `policy`, for states in the scale of `own` and the kinds of its items."""
    assert policy.critic is not None
    critic = policy.critic.for_items(policy.items, own.items)
    return critic.rescaled(policy.normaliser.rescaling(own.normaliser))


def _spread(critic: Critic, embeddings: np.ndarray, states: np.ndarray) -> float:
    """Return the standard deviation of Q over items, averaged over `states`; 0 if it is only rounding."""
    items = some(embeddings, _ITEMS)
    scores = critic.scores(states, np.broadcast_to(items, (len(states), *items.shape)))
    spread = float(scores.std(axis=1, dtype=np.float64).mean())
    return spread if spread > 1e-6 * np.abs(scores).max() else 0.0


def _mean_effects(critics: Sequence[tuple[Critic, float]]) -> list[np.ndarray]:
    """Return the mean effects of kinds over critics, each in the unit of its spread; a critic without has zeros."""
    each = [[effects / np.float32(spread) for effects in critic.kind_effects] for critic, spread in critics]
    kinds = max(each, key=len)
    return [
        np.sum([own[number] for own in each if own], axis=0) / np.float32(len(each)) for number in range(len(kinds))
    ]
