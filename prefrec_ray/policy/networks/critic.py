"""Critic of a policy bundle: Q networks that score real items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import effects_of_items
from prefrec_ray.mdp.normaliser import CLIP
from prefrec_ray.policy.networks.bundled import CriticDescription, read_networks, write_networks
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback, worth_of
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.policy.networks.q import ItemNetwork, QFunction
from prefrec_ray.storage import Form

#: Numbers (rows x candidates x width) of one hidden layer in memory: half a MiB of float32, which fits into the cache
#: of a core together with the next layer (16 MiB were 2 to 5 times slower, 1 MiB twice as slow with layers of 64).
_HIDDEN_AT_ONCE = 1 << 17
#: Chunks of rows whose states pass the first layer together, which takes a quarter less time than one by one.
_CHUNKS = 32


@dataclass(frozen=True)
class Critic:
    """Mean of one or several Q(s, a).

    `scales` [Q, 2, S] convert states to the scale of each network if their data sets differ (`Normaliser.rescaling`).
    `answers` predicts feedback from states on the scale `answers_scale` [2, S]. Its weights `worth` float32 [F] make
    it a scorer, `by_feedback`. `kind_effects` float32 [C], one array per kind of items, by code, are added to Q of an
    item (mdp/kinds.py).

    Raises `UserError` for networks with different inputs, and without networks.
    """

    networks: Sequence[QFunction]
    scales: np.ndarray | None = None
    answers: ExpectedFeedback | None = None
    answers_scale: np.ndarray | None = None
    worth: np.ndarray | None = None
    kind_effects: Sequence[np.ndarray] = ()
    #: Scores are divided by their standard deviation over the items, because the scale of Q is arbitrary.
    standardised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        widths = [network.widths for network in (*self.networks, *([self.answers] if self.answers else []))]
        if len(set(widths)) != 1:
            raise UserError(
                f"critic: found networks on states and actions of {widths} numbers; expected one or more, equal"
            )

    @property
    def width(self) -> int:
        """Return the width of a state and an action together."""
        return sum(self.networks[0].widths)

    @property
    def scaled_networks(self) -> list[tuple[QFunction, np.ndarray | None]]:
        """Return the networks with the scale of each, None without one."""
        scales = [None] * len(self.networks) if self.scales is None else self.scales
        return list(zip(self.networks, scales, strict=True))

    def rescaled(self, scale: np.ndarray) -> Critic:
        """Return this critic for states on another scale; `scale` [2, S] are the factor and shift to its own scale."""
        same = np.stack([np.ones_like(scale[0]), np.zeros_like(scale[0])])
        own = np.stack([same] * len(self.networks)) if self.scales is None else self.scales
        answers_scale = None
        if self.answers is not None:
            answers_scale = _after(scale, same if self.answers_scale is None else self.answers_scale)
        return replace(self, scales=np.stack([_after(scale, one) for one in own]), answers_scale=answers_scale)

    def with_worth(self, states: np.ndarray, embeddings: np.ndarray) -> Critic:
        """Return a critic whose expected feedback is fitted to Q of `embeddings` [k, A] in `states` [n, S].

        It has the spread of Q, because `kind_effects` are added to both.
        """
        if self.answers is None:
            return self
        candidates = np.broadcast_to(embeddings, (len(states), *embeddings.shape))
        q = self.scores(states, candidates)
        worth = worth_of(self.expected(states, candidates), q) * q.std(axis=1).mean()
        return replace(self, worth=worth.astype(np.float32))

    def effects(self, kinds: np.ndarray) -> np.ndarray | None:
        """Return the effects of the kinds int32 [I, K] of items on Q, float32 [I]; None without effects."""
        return effects_of_items(self.kind_effects, kinds) if self.kind_effects else None

    def for_items(self, known: ItemTable, items: ItemTable) -> Critic:
        """Return the critic for `items` whose kinds have other codes than the kinds of its own items, `known`.

        The effect of a value is the mean effect of its items that are known. A kind that `known` lacks has no effects.
        """
        if not self.kind_effects or items.kind_codes is None or known.kind_codes is None:
            return replace(self, kind_effects=())
        place = known.find(items.ids)
        there = place >= 0
        each = zip(_names(known), self.kind_effects, known.kind_codes.T, strict=False)
        own_kinds = {name: (own, before) for name, own, before in each}
        missing = np.zeros(0, np.float32), np.full(len(known), -1)
        effects = []
        for name, codes in zip(_names(items), items.kind_codes.T, strict=False):
            own, before = own_kinds.get(name, missing)
            code, old = codes[there], before[place[there]]
            both = (code >= 0) & (old >= 0)
            size = int(codes.max(initial=-1)) + 1
            total = np.bincount(code[both], effects_of_items([own], old[both, None]), size)
            effects.append((total / np.maximum(np.bincount(code[both], minlength=size), 1)).astype(np.float32))
        return replace(self, kind_effects=effects)

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return Q of k actions per state, float32 [n, k], for states [n, S] and actions [n, k, A]."""
        each = [_given(network, scale, states, candidates) for network, scale in self.scaled_networks]
        return np.stack(each).mean(axis=0)

    def expected(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the expected feedback [n, k, F] on k actions per state. The critic must have `answers`."""
        assert self.answers is not None
        return _given(self.answers, self.answers_scale, states, candidates)

    @cached_property
    def by_feedback(self) -> Critic:
        """Return expected feedback times its weights, as one network. The critic must have `worth`.

        Both are linear in the last layer, so that its many outputs, which cost as much as all earlier layers, become
        one.
        """
        assert self.answers is not None
        assert self.worth is not None
        *hidden, (weight, bias) = self.answers.net.layers
        worth = self.worth[None]
        layers = [*hidden, (worth @ weight, worth @ bias)]
        network = QFunction(Mlp.from_layers(layers), self.answers.products.tolist(), self.answers.widths[1])
        scales = None if self.answers_scale is None else self.answers_scale[None]
        return Critic([network], scales, kind_effects=self.kind_effects)

    def save(self, uri: str) -> dict[str, Any]:
        """Write the arrays to `uri`. Returns the other arguments of `load`, for JSON."""
        others = {"scales": self.scales, "answers_scale": self.answers_scale}
        others |= {f"kind_effects_{number}": effects for number, effects in enumerate(self.kind_effects)}
        networks = {f"q{i}": q.net.layers for i, q in enumerate(self.networks)}
        described: dict[str, Any] = {
            "products": self.networks[0].products.tolist(),
            "kind_effects": [len(effects) for effects in self.kind_effects],
        }
        if self.answers is not None and self.worth is not None:
            networks["answers"] = self.answers.net.layers
            described["answers"] = {"products": self.answers.products.tolist(), "worth": self.worth.tolist()}
        sizes = write_networks(uri, networks, {name: array for name, array in others.items() if array is not None})
        if "answers" in described:
            described["answers"]["layer_sizes"] = sizes.pop("answers")
        described["layer_sizes"] = list(sizes.values())
        return described | ({} if self.scales is None else {"rescaled": True})

    @classmethod
    def load(cls, uri: str, described: CriticDescription, widths: tuple[int, int]) -> Critic:
        """Load the result of `save`, described by policy.json; `widths` are the widths of a state and an action.

        Raises `UserError` for a missing file, and for missing arrays or other sizes.
        """
        sizes = {f"q{i}": layers for i, layers in enumerate(described.layer_sizes)}
        forms: dict[str, Form] = {}
        if described.rescaled:
            forms["scales"] = (np.float32, (len(sizes), 2, widths[0]))
        for number, count in enumerate(described.kind_effects):
            forms[f"kind_effects_{number}"] = (np.float32, (count,))
        about = described.answers
        if about is not None:
            forms |= {"answers_scale": (np.float32, (2, widths[0]))} if described.rescaled else {}
            sizes["answers"] = about.layer_sizes
        networks, others = read_networks(uri, sizes, forms)
        answers = networks.pop("answers", None)
        feedback = ExpectedFeedback(Mlp.from_layers(answers), about.products, widths[1]) if answers and about else None
        return cls(
            networks=[
                QFunction(Mlp.from_layers(layers), described.products, widths[1]) for layers in networks.values()
            ],
            scales=others.get("scales"),
            answers=feedback,
            answers_scale=others.get("answers_scale"),
            worth=np.array(about.worth, np.float32) if about else None,
            kind_effects=[others[f"kind_effects_{number}"] for number in range(len(described.kind_effects))],
        )


def some(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of `rows` at equal steps, as a deterministic sample."""
    return rows[:: max(1, -(-len(rows) // most))]


def _names(items: ItemTable) -> list[str | None]:
    """Return the names of the kinds of `items`; None for the first one, the cluster, which needs no name."""
    return [None, *(kind.name for kind in items.kind_names[1:])]


def _after(scale: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return factor and shift [2, S] of the composition: `scale` first, then `own`."""
    return np.stack([scale[0] * own[0], scale[1] * own[0] + own[1]])


def _given(network: ItemNetwork, scale: np.ndarray | None, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the outputs of a network for k actions per state, [n, k] or [n, k, O]; `scale` converts the states."""
    n, k, _ = candidates.shape
    chunk = max(1, _HIDDEN_AT_ONCE // (max(k, 1) * max(network.net.sizes[1:])))
    same_for_all = n > 1 and candidates.strides[0] == 0  # [k, A], broadcast
    a = _tensor(candidates[0]).expand(n, -1, -1) if same_for_all else _tensor(candidates)
    with torch.inference_mode():
        if n <= chunk:
            return network.given(scaled(_tensor(states), scale))(a).numpy()
        parts = []
        for start in range(0, n, _CHUNKS * chunk):
            end = min(n, start + _CHUNKS * chunk)
            of_actions = network.given(scaled(_tensor(states[start:end]), scale))
            for first in range(start, end, chunk):
                last = min(end, first + chunk)
                parts.append(of_actions(a[first:last], slice(first - start, last - start)).numpy())
    return np.concatenate(parts)


def scaled(states: torch.Tensor, scale: np.ndarray | None) -> torch.Tensor:
    """Return states on the scale of a network."""
    if scale is None:
        return states
    factor, shift = torch.from_numpy(scale)
    return (states * factor + shift).clip(-CLIP, CLIP)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
