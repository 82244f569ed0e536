"""The bundle that a user takes away: a deterministic actor, all that feeds it, and how its actions are served."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import RULES, ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures
from prefrec_ray.mdp.tracker import StateTracker

SCHEMA_VERSION = 1
_NAMES = ("weight", "bias")
#: Rows of one forward pass: large enough for the matrix product, small enough for the cache and for memory.
_CHUNK = 16_384


@dataclass(frozen=True)
class Policy:
    """pi(s): an MLP with ReLU, then tanh scaled to the bounds of the actions; served as items of a table.

    `layers` are (weight [out, in], bias [out]), float32, from the input on. `low` and `high` [A] bound the actions.
    `serving` is "nearest" (Euclidean) or "dot". `provenance` says where it came from: method, recipe, task, dataset,
    iteration. Pickles as plain arrays.

    Raises `UserError` where widths disagree or the serving rule is unknown.
    """

    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    low: np.ndarray
    high: np.ndarray
    state: StateDefinition
    normaliser: Normaliser
    items: ItemTable
    serving: str = "nearest"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = layer_sizes(self.layers)
        if sizes[0] != self.state.width:
            raise UserError(f"policy: the actor takes {sizes[0]} numbers, its states have {self.state.width}")
        if not sizes[-1] == len(self.low) == len(self.high):
            raise UserError(
                f"policy: the actor gives {sizes[-1]} numbers, its bounds have {len(self.low)} and {len(self.high)}"
            )
        if self.serving not in RULES:
            raise UserError(f"policy: serving rule '{self.serving}'; expected one of {', '.join(RULES)}")

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
                actions[start : start + _CHUNK] = self._forward(torch.from_numpy(rows)).numpy()
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
        description = {
            "schema_version": SCHEMA_VERSION,
            "layer_sizes": layer_sizes(self.layers),
            "low": [float(value) for value in self.low],
            "high": [float(value) for value in self.high],
            "serving": self.serving,
            "state": self.state.to_dict(),
            "normaliser": self.normaliser.to_dict(),
            "provenance": dict(self.provenance),
        }
        with storage.staged(uri) as folder:
            _write_layers(storage.join(folder, "actor.npz"), self.layers)
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
                layers=_read_layers(storage.join(uri, "actor.npz"), description["layer_sizes"]),
                low=np.array(description["low"], dtype=np.float32),
                high=np.array(description["high"], dtype=np.float32),
                state=StateDefinition.from_dict(description["state"]),
                normaliser=Normaliser.from_dict(description["normaliser"]),
                items=ItemTable.load(storage.join(uri, "items.parquet")),
                serving=description["serving"],
                provenance=description["provenance"],
            )
        except KeyError as error:
            raise UserError(f"{path}: key {error} is missing") from error

    @cached_property
    def _tensors(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [
            (torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32))
            for weight, bias in self.layers
        ]

    def _forward(self, states: torch.Tensor) -> torch.Tensor:
        hidden = states
        for i, (weight, bias) in enumerate(self._tensors):
            hidden = nn.functional.linear(torch.relu(hidden) if i else hidden, weight, bias)
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        return low + (torch.tanh(hidden) + 1.0) * 0.5 * (high - low)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tensors"}


def layer_sizes(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """Widths from the input to the output. Raises `UserError` where the layers do not fit together."""
    if not layers:
        raise UserError("policy: the actor has no layers")
    sizes = [layers[0][0].shape[-1]]
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or weight.shape[1] != sizes[-1] or bias.shape != weight.shape[:1]:
            raise UserError(
                f"policy: layer {i} has a weight {list(weight.shape)} and a bias {list(bias.shape)}; "
                f"expected {sizes[-1]} inputs and as many biases as outputs"
            )
        sizes.append(int(weight.shape[0]))
    return sizes


def _write_layers(uri: str, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    arrays = {
        f"layers.{i}.{name}": array for i, pair in enumerate(layers) for name, array in zip(_NAMES, pair, strict=True)
    }
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    system, path = storage.filesystem(uri)
    with system.open_output_stream(path) as stream:
        stream.write(packed.getvalue())


def _read_layers(uri: str, sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    system, path = storage.filesystem(uri)
    try:
        with system.open_input_stream(path) as stream:
            packed = io.BytesIO(stream.read())
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file") from error
    names = [tuple(f"layers.{i}.{name}" for name in _NAMES) for i in range(len(sizes) - 1)]
    try:
        with np.load(packed, allow_pickle=False) as arrays:
            layers = [(arrays[weight], arrays[bias]) for weight, bias in names]
    except KeyError as error:
        raise UserError(f"{uri}: {error.args[0]}; expected {', '.join(sum(names, ()))}") from error
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise UserError(f"{uri}: not a file of plain arrays ({str(error).splitlines()[0]})") from error
    if layer_sizes(layers) != sizes:
        raise UserError(f"{uri}: layers of {layer_sizes(layers)} numbers; policy.json says {sizes}")
    return layers
