"""Deterministic actors: what a method trains, what a policy bundle holds, and how it acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from annotated_types import MinLen
from pydantic import ConfigDict, FiniteFloat, PositiveInt, model_validator
from torch import Tensor, nn

from prefrec_ray.errors import UserError
from prefrec_ray.networks.arrays import read_networks, write_networks
from prefrec_ray.networks.layers import Head, Mlp, to_array
from prefrec_ray.networks.q import QFunction
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage import Form


class Bounded(nn.Module):
    """What makes actions within `low` and `high` [A], the bounds of the action space."""

    low: Tensor
    high: Tensor

    def __init__(self, low: np.ndarray | Tensor, high: np.ndarray | Tensor) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32), persistent=False)

    def squashed(self, raw: Tensor) -> Tensor:
        """Numbers [n, A] of any size, by tanh, as actions within the bounds."""
        return self.low + (torch.tanh(raw) + 1.0) * 0.5 * (self.high - self.low)


class Actor(Bounded):
    """pi(s): states [n, S] -> actions [n, A] within the bounds.

    A bundle holds the bounds, the `kind`, and by name the MLPs and the arrays of the actor: enough to act.
    """

    kind: ClassVar[str]
    network_names: ClassVar[tuple[str, ...]]
    arrays: ClassVar[Mapping[str, Form]] = {}

    @classmethod
    def of(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> Actor:
        """The actor of the `Mlp`s and arrays that a bundle holds."""
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Any]:
        """The `Mlp`s and tensors that a bundle holds."""
        raise NotImplementedError

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""
        raise NotImplementedError


class DeterministicActor(Actor):
    """pi(s): an MLP, tanh, scaled to the bounds.

    Raises `UserError` where the network has more or fewer outputs than there are bounds.
    """

    kind = "mlp"
    network_names = ("layers",)

    def __init__(self, net: Mlp, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__(low, high)
        if not net.sizes[-1] == len(low) == len(high):
            raise UserError(
                f"policy: the actor gives {net.sizes[-1]} numbers, its bounds have {len(low)} and {len(high)}"
            )
        self.net = net

    def forward(self, states: Tensor) -> Tensor:
        return self.squashed(self.net(states))

    @classmethod
    def of(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> DeterministicActor:
        """tanh of the MLP `layers`."""
        return DeterministicActor(parts["layers"], low, high)

    @property
    def parts(self) -> dict[str, Any]:
        """The MLP."""
        return {"layers": self.net}

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""
        return self.net.sizes[0], self.net.sizes[-1]


class GaussianActor(DeterministicActor):
    """A Gaussian before tanh, its deviation dependent on the state or not; acts by its mean."""

    kind = "gaussian"
    arrays: ClassVar[Mapping[str, Form]] = {
        "deviation_weight": (np.float32, (None, None)),
        "deviation_bias": (np.float32, (None,)),
    }

    def __init__(self, net: Mlp, low: np.ndarray, high: np.ndarray, state_deviation: bool) -> None:
        super().__init__(net, low, high)
        inputs, outputs = net.sizes[-2:]
        self.log_std = Head(inputs, outputs) if state_deviation else Constant(outputs)

    def distribution(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, A] and log-deviation [B, A] (or [A]) before tanh, the latter clipped to [-5, 2]."""
        hidden = self.net[:-1](states)
        return self.net[-1](hidden), torch.clamp(self.log_std(hidden), -5.0, 2.0)

    @classmethod
    def of(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> GaussianActor:
        """tanh of a Gaussian: its mean is the MLP `layers`, its log-deviation linear in the last hidden layer."""
        actor = GaussianActor(parts["layers"], low, high, state_deviation=True)
        weight, bias = parts["deviation_weight"], parts["deviation_bias"]
        expected = actor.net.sizes[-1:-3:-1]
        if [*weight.shape, *bias.shape] != [*expected, expected[0]]:
            raise UserError(
                f"policy: a deviation of {list(weight.shape)} and {list(bias.shape)} numbers; "
                f"expected {expected} and {expected[:1]}"
            )
        actor.log_std.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return actor.requires_grad_(False)

    @property
    def parts(self) -> dict[str, Any]:
        """The MLP, and the linear layer of the log-deviation; weights of zeros where it is the same in every state."""
        if isinstance(self.log_std, Constant):
            bias = self.log_std.value
            weight = torch.zeros(len(bias), self.net.linear[-1].in_features)
        else:
            weight, bias = self.log_std.weight, self.log_std.bias
        return {"layers": self.net, "deviation_weight": weight, "deviation_bias": bias}


class Constant(nn.Module):
    """Learned numbers [n] that do not depend on the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.value


class Perturbation(Bounded):
    """xi(s, a): actions [n, A] moved by at most `reach` [A], and kept in the bounds."""

    reach: Tensor

    def __init__(self, net: Mlp, low: np.ndarray, high: np.ndarray, reach: np.ndarray) -> None:
        super().__init__(low, high)
        self.net = net
        self.register_buffer("reach", torch.tensor(reach, dtype=torch.float32), persistent=False)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.moved(actions, self.net(torch.cat([states, actions], dim=-1)))

    def moved(self, actions: Tensor, outputs: Tensor) -> Tensor:
        """Actions [n, A] moved by what the MLP puts out, [n, A]."""
        return torch.clamp(actions + self.reach * torch.tanh(outputs), self.low, self.high)


def proposer(decoder: DeterministicActor, perturbation: Perturbation, states: Tensor) -> Callable[[Tensor], Tensor]:
    """From latents [n, Z] to the actions [n, A] proposed in `states`, decoded and moved."""
    decode, move = decoder.net.given(states), perturbation.net.given(states)

    def propose(latents: Tensor) -> Tensor:
        actions = decoder.squashed(decode(latents))
        return perturbation.moved(actions, move(actions))

    return propose


class CandidateActor(Actor):
    """The best of K candidates by a critic (BCQ, Fujimoto et al. 2019, Eq. 12 with fixed latents).

    A candidate is proposed for each row z of `latents` [K, Z]: decoded from (s, z), and moved. The critic scores
    (s, a); the first of equals is taken.

    Raises `UserError` where the widths of the networks disagree.
    """

    kind = "candidates"
    network_names = ("decoder", "perturbation", "critic")
    arrays: ClassVar[Mapping[str, Form]] = {
        "latents": (np.float32, (None, None)),
        "reach": (np.float32, (None,)),
        "products": (np.int64, (None, None)),
    }
    latents: Tensor

    def __init__(
        self, decoder: DeterministicActor, perturbation: Perturbation, critic: QFunction, latents: Tensor
    ) -> None:
        super().__init__(decoder.low, decoder.high)
        self.decoder, self.perturbation, self.critic = decoder, perturbation, critic
        self.register_buffer("latents", latents, persistent=False)
        state, action = self.widths
        ends, expected = (perturbation.net.sizes[0], perturbation.net.sizes[-1]), (state + action, action)
        if ends != expected:
            raise UserError(
                f"policy: the perturbation takes {ends[0]} numbers and gives {ends[1]}; "
                f"expected {expected[0]} and {expected[1]}"
            )
        if critic.widths != (state, action):
            raise UserError(
                f"policy: the critic takes states and actions of {critic.widths} numbers; expected {(state, action)}"
            )
        if len(latents) == 0 or perturbation.reach.shape != self.low.shape:
            raise UserError(
                f"policy: {len(latents)} latents and a reach of {len(perturbation.reach)} numbers; "
                f"expected one or more, and {action}"
            )

    def forward(self, states: Tensor) -> Tensor:
        propose = proposer(self.decoder, self.perturbation, states)
        score = self.critic.given(states)
        best = propose(self.latents[0].expand(len(states), -1))
        best_score = score(best)
        for latent in self.latents[1:]:  # one after another, so that K candidates need no more memory than two
            actions = propose(latent.expand(len(states), -1))
            scores = score(actions)
            better = scores > best_score
            best = torch.where(better[:, None], actions, best)
            best_score = torch.where(better, scores, best_score)
        return best

    @classmethod
    def of(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> CandidateActor:
        """The best of the candidates of a decoder and a perturbation by a critic."""
        decoder = DeterministicActor(parts["decoder"], low, high)
        perturbation = Perturbation(parts["perturbation"], low, high, parts["reach"])
        critic = QFunction(parts["critic"], parts["products"], len(low))
        return CandidateActor(decoder, perturbation, critic, torch.tensor(parts["latents"]))

    @property
    def parts(self) -> dict[str, Any]:
        """Three MLPs, what Q sees of a state, the latents, and how far a candidate is moved at most."""
        return {
            "decoder": self.decoder.net,
            "perturbation": self.perturbation.net,
            "critic": self.critic.net,
            "products": self.critic.products,
            "latents": self.latents,
            "reach": self.perturbation.reach,
        }

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a state, and in an action."""
        inputs, *_, action = self.decoder.net.sizes
        return inputs - self.latents.shape[1], action


ACTORS: dict[str, type[Actor]] = {actor.kind: actor for actor in (DeterministicActor, GaussianActor, CandidateActor)}


class ActorDescription(Settings):
    """What policy.json says of an actor."""

    model_config = ConfigDict(strict=True)

    kind: str
    layer_sizes: dict[str, Annotated[list[PositiveInt], MinLen(2)]]
    low: list[FiniteFloat]
    high: list[FiniteFloat]

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        with np.errstate(over="ignore"):
            low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        if (len(low) == len(high) and not (low < high).all()) or not np.isfinite([*low, *high]).all():
            raise ValueError("expected low < high, of numbers that float32 holds")
        return self


def save_actor(uri: str, actor: Actor) -> dict[str, Any]:
    """Writes the arrays of `actor` to `uri` (npz, no pickle); returns what `load_actor` needs beside it, for JSON."""
    networks = {name: part.layers for name, part in actor.parts.items() if isinstance(part, Mlp)}
    arrays = {name: to_array(part) for name, part in actor.parts.items() if isinstance(part, Tensor)}
    return {
        "kind": actor.kind,
        "layer_sizes": write_networks(uri, networks, arrays),
        "low": actor.low.tolist(),
        "high": actor.high.tolist(),
    }


def load_actor(uri: str, description: Any) -> Actor:
    """Reads what `save_actor` wrote.

    Raises `UserError`: no such file, no plain arrays, an unknown kind, arrays that are missing or of other widths than
    described, a description that is none.
    """
    said = parse(ActorDescription, description, f"{uri}: actor of policy.json")
    kind = ACTORS.get(said.kind)
    if kind is None:
        raise UserError(f"{uri}: actor of kind '{said.kind}'; expected one of {', '.join(ACTORS)}")
    if set(said.layer_sizes) != set(kind.network_names):
        raise UserError(
            f"{uri}: an actor of kind '{kind.kind}' has the networks {', '.join(kind.network_names)}; "
            f"found {', '.join(said.layer_sizes)} in policy.json"
        )
    networks, arrays = read_networks(uri, said.layer_sizes, kind.arrays)
    parts = {**{name: Mlp.of(layers) for name, layers in networks.items()}, **arrays}
    return kind.of(parts, np.asarray(said.low, np.float32), np.asarray(said.high, np.float32))
