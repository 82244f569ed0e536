"""The bundle that a user takes away: a deterministic actor, all that feeds it, and how its actions are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import RULES, ItemTable, smallest
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.networks.actors import Actor, load_actor, save_actor
from prefrec_ray.networks.critic import Critic

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
        width, _ = self.actor.widths
        if width != self.state.width:
            raise UserError(f"policy: the actor takes {width} numbers, its states have {self.state.width}")
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
        """Item ids [n, k] for scaled states [n, S], best first: by Q where there is a critic, else by the serving rule.

        Raises `UserError` for k beyond the number of items (of candidates, where there is a critic).
        """
        if self.critic is None:
            return self.items.ids[self.items.nearest(self._propose(states), k, self.serving)]
        if not 1 <= k <= self.candidates:
            raise UserError(f"k = {k} items wanted; the policy chooses among {self.candidates} candidates")
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
        """Rows [n, k] of the items of the largest Q among the candidates, best first."""
        assert self.critic is not None
        near = self.items.nearest(self._propose(states), self.candidates, "nearest")
        order = np.empty((len(states), k), dtype=np.int64)
        for start in range(0, len(states), _CHUNK):
            rows = slice(start, start + _CHUNK)
            chunk = np.require(states[rows], dtype=np.float32, requirements=["C", "W"])
            scores = self.critic.scores(chunk, self.items.embeddings[near[rows]])
            order[rows] = smallest(-scores, k)
        return np.take_along_axis(near, order, axis=1)

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
        description = storage.read_json(path)
        version = description.get("schema_version") if isinstance(description, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {version}; this version of prefrec_ray reads {SCHEMA_VERSION}")
        chooser = description.get("critic")
        try:
            critic = Critic.load(storage.join(uri, "critic.npz"), chooser["layer_sizes"]) if chooser else None
            return cls(
                actor=load_actor(storage.join(uri, "actor.npz"), description["actor"]),
                state=StateDefinition.from_dict(description["state"]),
                normaliser=Normaliser.from_dict(description["normaliser"]),
                items=ItemTable.load(storage.join(uri, "items.parquet")),
                serving=description["serving"],
                provenance=description["provenance"],
                critic=critic,
                candidates=chooser["candidates"] if chooser else 1,
            )
        except KeyError as error:
            raise UserError(f"{path}: key {error} is missing") from error
