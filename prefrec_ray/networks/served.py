"""Deterministic actors as plain arrays: what a policy bundle holds, and how it acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.errors import UserError
from prefrec_ray.networks.arrays import (
    Layers,
    forward,
    given_states,
    layer_sizes,
    read_networks,
    to_tensors,
    write_networks,
)


class Actor(Protocol):
    """pi(s): states [n, S] -> actions [n, A] within `low` and `high` [A]. Pickles as plain arrays.

    `networks` names its MLPs and `arrays` what else it needs; with `kind` and the bounds they are all that is saved.
    """

    kind: ClassVar[str]

    @property
    def low(self) -> np.ndarray: ...

    @property
    def high(self) -> np.ndarray: ...

    @property
    def networks(self) -> Mapping[str, Layers]: ...

    @property
    def arrays(self) -> Mapping[str, np.ndarray]: ...

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""

    def __call__(self, states: Tensor) -> Tensor: ...


class _Plain:
    """Tensors of a frozen dataclass of arrays, made once and left out of pickles."""

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        fields = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {name: _to_tensors(value) for name, value in fields.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tensors"}


@dataclass(frozen=True)
class MlpActor(_Plain):
    """tanh of an MLP, scaled to the bounds.

    Raises `UserError` where the layers do not fit together, or the bounds to them.
    """

    layers: Layers
    low: np.ndarray
    high: np.ndarray
    kind: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        _check_outputs("actor", layer_sizes(self.layers)[-1], self.low, self.high)

    @property
    def networks(self) -> Mapping[str, Layers]:
        """The MLP."""
        return {"layers": self.layers}

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """None."""
        return {}

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""
        sizes = layer_sizes(self.layers)
        return sizes[0], sizes[-1]

    def __call__(self, states: Tensor) -> Tensor:
        parts = self._tensors
        return _to_bounds(torch.tanh(forward(parts["layers"], states)), parts["low"], parts["high"])


@dataclass(frozen=True)
class CandidateActor(_Plain):
    """The best of K candidates by a critic (BCQ, Fujimoto et al. 2019, Eq. 12 with fixed latents).

    A candidate is decoded from (s, z) for each row z of `latents` [K, Z], moved by at most `reach` [A] by the
    perturbation network on (s, a), and kept in the bounds; the critic scores (s, a), the first of equals is served.

    Raises `UserError` where the widths of the networks disagree.
    """

    decoder: Layers
    perturbation: Layers
    critic: Layers
    latents: np.ndarray
    reach: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kind: ClassVar[str] = "candidates"

    def __post_init__(self) -> None:
        state, action = self.widths
        _check_outputs("decoder", action, self.low, self.high)
        for name, outputs in (("perturbation", action), ("critic", 1)):
            sizes = layer_sizes(self.networks[name])
            if (sizes[0], sizes[-1]) != (state + action, outputs):
                raise UserError(
                    f"policy: the {name} takes {sizes[0]} numbers and gives {sizes[-1]}; "
                    f"expected {state + action} and {outputs}"
                )

    @property
    def networks(self) -> Mapping[str, Layers]:
        """The three MLPs."""
        return {"decoder": self.decoder, "perturbation": self.perturbation, "critic": self.critic}

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Latents and reach."""
        return {"latents": self.latents, "reach": self.reach}

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""
        sizes = layer_sizes(self.decoder)
        return sizes[0] - self.latents.shape[1], sizes[-1]

    def __call__(self, states: Tensor) -> Tensor:
        parts = self._tensors
        low, high = parts["low"], parts["high"]
        decode, move, score = (given_states(parts[name], states) for name in ("decoder", "perturbation", "critic"))

        def candidate(latent: Tensor) -> tuple[Tensor, Tensor]:
            action = _to_bounds(torch.tanh(decode(latent.expand(len(states), -1))), low, high)
            action = torch.clamp(action + parts["reach"] * torch.tanh(move(action)), low, high)
            return action, score(action)

        return best_candidate(candidate(latent) for latent in parts["latents"])


def best_candidate(candidates: Any) -> Tensor:
    """The actions [n, A] with the largest score, row by row; `candidates` yields (actions [n, A], scores [n, 1]).

    One after another, so that K candidates need no more memory than two.
    """
    best, score = next(candidates)
    for action, value in candidates:
        better = value > score
        best, score = torch.where(better, action, best), torch.where(better, value, score)
    return best


ACTORS: dict[str, Any] = {actor.kind: actor for actor in (MlpActor, CandidateActor)}


def save_actor(uri: str, actor: Actor) -> dict[str, Any]:
    """Writes the arrays of `actor` to `uri` (npz, no pickle); returns what `load_actor` needs beside it, for JSON."""
    return {
        "kind": actor.kind,
        "layer_sizes": write_networks(uri, actor.networks, actor.arrays),
        "low": [float(value) for value in actor.low],
        "high": [float(value) for value in actor.high],
    }


def load_actor(uri: str, description: Mapping[str, Any]) -> Actor:
    """Reads what `save_actor` wrote.

    Raises `UserError`: no such file, no plain arrays, an unknown kind, arrays that are missing or of other widths than
    described. Raises KeyError for a key that `description` lacks.
    """
    kind = ACTORS.get(description["kind"])
    if kind is None:
        raise UserError(f"{uri}: actor of kind '{description['kind']}'; expected one of {', '.join(ACTORS)}")
    networks, arrays = read_networks(uri, description["layer_sizes"])
    bounds = {name: np.array(description[name], dtype=np.float32) for name in ("low", "high")}
    try:
        return kind(**networks, **arrays, **bounds)
    except TypeError as error:
        raise UserError(f"{uri}: not the arrays of an actor of kind '{kind.kind}' ({error})") from error


def _check_outputs(name: str, outputs: int, low: np.ndarray, high: np.ndarray) -> None:
    if not outputs == len(low) == len(high):
        raise UserError(f"policy: the {name} gives {outputs} numbers, its bounds have {len(low)} and {len(high)}")


def _to_tensors(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float32) if isinstance(value, np.ndarray) else to_tensors(value)


def _to_bounds(unit: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return low + (unit + 1.0) * 0.5 * (high - low)
