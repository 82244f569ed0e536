"""The bundle that a user takes away: a deterministic actor, all that feeds it, and how its actions are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from prefrec_ray import storage
from prefrec_ray.actors import Actor, load_actor, save_actor
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import RULES, ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures
from prefrec_ray.mdp.tracker import StateTracker

SCHEMA_VERSION = 1
#: Rows of one forward pass: large enough for the matrix product, small enough for the cache and for memory.
_CHUNK = 16_384


@dataclass(frozen=True)
class Policy:
    """A deterministic actor on states of `state`, scaled by `normaliser`; its actions are served as items of a table.

    `serving` is "nearest" (Euclidean) or "dot". `provenance` says where it came from: method, recipe, task, dataset,
    seed. Pickles as plain arrays.

    Raises `UserError` where widths disagree or the serving rule is unknown.
    """

    actor: Actor
    state: StateDefinition
    normaliser: Normaliser
    items: ItemTable
    serving: str = "nearest"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width, _ = self.actor.widths
        if width != self.state.width:
            raise UserError(f"policy: the actor takes {width} numbers, its states have {self.state.width}")
        if self.serving not in RULES:
            raise UserError(f"policy: serving rule '{self.serving}'; expected one of {', '.join(RULES)}")

    @property
    def low(self) -> np.ndarray:
        """Lower bounds of the actions [A]."""
        return self.actor.low

    @property
    def high(self) -> np.ndarray:
        """Upper bounds of the actions [A]."""
        return self.actor.high

    def act(self, states: np.ndarray) -> np.ndarray:
        """Actions float32 [n, A] within the bounds, for scaled states float32 [n, S].

        Raises `UserError` for states of another width.
        """
        if states.ndim != 2 or states.shape[1] != self.state.width:
            raise UserError(f"policy: states of shape {list(states.shape)}; expected [n, {self.state.width}]")
        actions = np.empty((len(states), len(self.low)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(states), _CHUNK):
                rows = np.require(states[start : start + _CHUNK], dtype=np.float32, requirements=["C", "W"])
                actions[start : start + _CHUNK] = self.actor(torch.from_numpy(rows)).numpy()
        return actions

    def recommend(self, states: np.ndarray, k: int) -> np.ndarray:
        """Item ids [n, k] for scaled states [n, S], best first by the serving rule.

        Raises `UserError` for k beyond the number of items.
        """
        return self.items.ids[self.items.nearest(self.act(states), k, self.serving)]

    def tracker(self, user_features: UserFeatures) -> StateTracker:
        """A tracker that gives this policy's states, for n users without history; `user_features` tells them apart."""
        return StateTracker(self.state, self.normaliser, self.items, user_features)

    def save(self, uri: str) -> None:
        """Writes the bundle (policy.json, actor.npz, items.parquet) as the folder `uri`, whole or not at all.

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
        try:
            return cls(
                actor=load_actor(storage.join(uri, "actor.npz"), description["actor"]),
                state=StateDefinition.from_dict(description["state"]),
                normaliser=Normaliser.from_dict(description["normaliser"]),
                items=ItemTable.load(storage.join(uri, "items.parquet")),
                serving=description["serving"],
                provenance=description["provenance"],
            )
        except KeyError as error:
            raise UserError(f"{path}: key {error} is missing") from error
