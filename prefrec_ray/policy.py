"""The bundle that a user takes away: a deterministic actor, all that feeds it, and how its actions are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import MinLen
from pydantic import ConfigDict, PositiveInt

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import RULES, ItemTable, smallest
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.networks.actors import Actor, load_actor, save_actor
from prefrec_ray.networks.critic import Critic
from prefrec_ray.settings import Settings, parse

SCHEMA_VERSION = 1
#: Rows of one forward pass: large enough for the matrix product, small enough for the cache and for memory.
_CHUNK = 16_384


@dataclass(frozen=True)
class Policy:
    """A deterministic actor on states of `state`, scaled by `normaliser`; its actions are served as items of a table.

    `serving` is "nearest" (Euclidean) or "dot". With a `critic` the actor only proposes: of the `candidates` items
    nearest to its action that of the largest Q is taken, and the policy's action is this item's embedding
    (Dulac-Arnold et al. 2015). `provenance` says where it came from: method, recipe, task, dataset, seed. Pickles as
    plain arrays.

    Raises `UserError` where widths disagree, the serving rule is unknown, or there are fewer items than candidates.
    """

    actor: Actor
    state: StateDefinition
    normaliser: Normaliser
    items: ItemTable
    serving: str = "nearest"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    critic: Critic | None = None
    candidates: int = 1

    def __post_init__(self) -> None:
        width, actions = self.actor.widths
        if not actions == self.state.action_dim == self.items.embeddings.shape[1]:
            raise UserError(
                f"policy: the actor gives {actions} numbers, its states hold {self.state.action_dim} of an item, and "
                f"the items have {self.items.embeddings.shape[1]}; expected one number"
            )
        if width != self.state.width:
            raise UserError(f"policy: the actor takes {width} numbers, its states have {self.state.width}")
        if len(self.normaliser.mean) != width:
            raise UserError(f"policy: the normaliser is of {len(self.normaliser.mean)} numbers, the states of {width}")
        if self.serving not in RULES:
            raise UserError(f"policy: serving rule '{self.serving}'; expected one of {', '.join(RULES)}")
        if self.critic is not None and self.serving != "nearest":
            # An action that is an item's embedding is nearest to that item; another may have a larger dot product.
            raise UserError(f"policy: a critic chooses among nearest items; found the serving rule '{self.serving}'")
        if self.critic is not None and self.critic.width != sum(self.actor.widths):
            raise UserError(f"policy: the critic takes {self.critic.width} numbers; expected {sum(self.actor.widths)}")
        if not 1 <= self.candidates <= len(self.items):
            raise UserError(f"policy: {self.candidates} candidates of {len(self.items)} items")

    @property
    def low(self) -> np.ndarray:
        """Lower bounds of the actions [A]."""
        return self.actor.low.numpy()

    @property
    def high(self) -> np.ndarray:
        """Upper bounds of the actions [A]."""
        return self.actor.high.numpy()

    def act(self, states: np.ndarray) -> np.ndarray:
        """Actions float32 [n, A] within the bounds, for scaled states float32 [n, S].

        Raises `UserError` for states of another width.
        """
        if self.critic is None:
            return self._propose(states)
        return self.items.embeddings[self._best(states, 1)[:, 0]]

    def recommend(self, states: np.ndarray, k: int) -> np.ndarray:
        """Item ids [n, k] for scaled states [n, S], best first, for any k up to the number of items.

        By the serving rule; with a critic the candidates come first, by Q, and then the other items, the nearest to
        the actor's action first. Of items that are equally good any may come first. Raises `UserError` for another k.
        """
        if self.critic is None:
            return self.items.ids[self.items.nearest(self._propose(states), k, self.serving)]
        return self.items.ids[self._best(states, k)]

    def _propose(self, states: np.ndarray) -> np.ndarray:
        """The actor's own actions [n, A]."""
        if states.ndim != 2 or states.shape[1] != self.state.width:
            raise UserError(f"policy: states of shape {list(states.shape)}; expected [n, {self.state.width}]")
        actions = np.empty((len(states), len(self.low)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(states), _CHUNK):
                rows = np.require(states[start : start + _CHUNK], dtype=np.float32, requirements=["C", "W"])
                actions[start : start + _CHUNK] = self.actor(torch.from_numpy(rows)).numpy()
        return actions

    def _best(self, states: np.ndarray, k: int) -> np.ndarray:
        """Rows [n, k] of items: the candidates, that of the largest Q first, then those next nearest to the action."""
        assert self.critic is not None
        if not 1 <= k <= len(self.items):
            raise UserError(f"k = {k} items wanted; the item table holds {len(self.items)}")
        near = self.items.nearest(self._propose(states), max(k, self.candidates), "nearest")
        candidates = near[:, : self.candidates]
        order = np.empty((len(states), min(k, self.candidates)), dtype=np.int64)
        for start in range(0, len(states), _CHUNK):
            rows = slice(start, start + _CHUNK)
            chunk = np.require(states[rows], dtype=np.float32, requirements=["C", "W"])
            scores = self.critic.scores(chunk, self.items.embeddings[candidates[rows]])
            order[rows] = smallest(-scores, order.shape[1])
        best = np.take_along_axis(candidates, order, axis=1)
        return np.concatenate([best, near[:, self.candidates : k]], axis=1)

    def tracker(self, user_features: UserFeatures) -> StateTracker:
        """A tracker that gives this policy's states, for n users without history; `user_features` tells them apart."""
        return StateTracker(self.state, self.normaliser, self.items, user_features)

    def save(self, uri: str) -> None:
        """Writes the bundle (policy.json, actor.npz, items.parquet, where there is one critic.npz), all or nothing.

        Raises `UserError` if `uri` exists.
        """
        description: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "serving": self.serving,
            "state": self.state.to_dict(),
            "normaliser": self.normaliser.to_dict(),
            "provenance": dict(self.provenance),
        }
        with storage.staged(uri, "policy.json") as folder:
            description["actor"] = save_actor(storage.join(folder, "actor.npz"), self.actor)
            if self.critic is not None:
                sizes = self.critic.save(storage.join(folder, "critic.npz"))
                description["critic"] = {"layer_sizes": sizes, "candidates": self.candidates}
            self.items.save(storage.join(folder, "items.parquet"))
            storage.write_json(storage.join(folder, "policy.json"), description)

    @classmethod
    def load(cls, uri: str) -> Policy:
        """Reads a bundle.

        Raises `UserError`: a missing or unreadable file, another schema version, widths that disagree.
        """
        path = storage.join(uri, "policy.json")
        value = storage.read_json(path)
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {version}; this version of prefrec_ray reads {SCHEMA_VERSION}")
        bundle = parse(_Bundle, value, path)
        chooser = bundle.critic
        candidates = chooser.candidates if chooser else 1
        try:
            actor = load_actor(storage.join(uri, "actor.npz"), bundle.actor)
            critic = Critic.load(storage.join(uri, "critic.npz"), chooser.layer_sizes) if chooser else None
            items = ItemTable.load(storage.join(uri, "items.parquet"))
            state = StateDefinition.from_dict(bundle.state, path)
            normaliser = Normaliser.from_dict(bundle.normaliser, path)
            return cls(actor, state, normaliser, items, bundle.serving, bundle.provenance, critic, candidates)
        except UserError as error:
            line = str(error)  # what does not fit together names no file, and is put together by policy.json
            raise UserError(
                line if line.startswith(str(uri)) else f"{path}: {line.removeprefix('policy: ')}"
            ) from error


class _Part(Settings):
    model_config = ConfigDict(strict=True)


class _Critic(_Part):
    layer_sizes: list[Annotated[list[PositiveInt], MinLen(2)]]
    candidates: PositiveInt


class _Bundle(_Part):
    """policy.json."""

    schema_version: int
    serving: Literal["nearest", "dot"]
    state: dict[str, Any]
    normaliser: dict[str, Any]
    provenance: dict[str, Any]
    actor: dict[str, Any]  # networks.actors.ActorDescription
    critic: _Critic | None = None
