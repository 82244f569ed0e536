"""Actors of the methods, for training, bundles and serving; and their density, which scores items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks.layers import Head, Mlp
from prefrec_ray.storage import Form

#: Actions at their bounds are moved inwards by this share of the half-width, since tanh never reaches them.
_EDGE = 1e-3


class Bounded(nn.Module):
    """Base of modules that return actions within `low` and `high` [A], the bounds of the action space."""

    low: Tensor
    high: Tensor

    def __init__(self, low: np.ndarray | Tensor, high: np.ndarray | Tensor) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32), persistent=False)

    def squashed(self, raw: Tensor) -> Tensor:
        """Return actions within the bounds for numbers [n, A] of any size, by tanh."""
        return self.low + (torch.tanh(raw) + 1.0) * 0.5 * (self.high - self.low)


class Actor(Bounded):
    """pi(s): states [n, S] -> actions [n, A] within the bounds.

    A bundle contains the bounds, the `kind`, and by name the MLPs and the arrays of the actor.
    """

    kind: ClassVar[str]
    network_names: ClassVar[tuple[str, ...]]
    arrays: ClassVar[Mapping[str, Form]] = {}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> Actor:
        """Return the actor of the `Mlp`s and arrays in a bundle."""
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Any]:
        """Return the `Mlp`s and tensors for a bundle."""
        raise NotImplementedError

    @property
    def widths(self) -> tuple[int, int]:
        """Return the widths of a state and of an action."""
        raise NotImplementedError


class DeterministicActor(Actor):
    """pi(s): an MLP, tanh, scaled to the bounds.

    Raises `UserError` if the numbers of outputs and bounds differ.
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
    def from_parts(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> DeterministicActor:
        return DeterministicActor(parts["layers"], low, high)

    @property
    def parts(self) -> dict[str, Any]:
        return {"layers": self.net}

    @property
    def widths(self) -> tuple[int, int]:
        return self.net.sizes[0], self.net.sizes[-1]


class GaussianActor(DeterministicActor):
    """A Gaussian before tanh (SAC); its deviation may depend on the state. It acts by its mean."""

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
        """Return mean [B, A] and log-deviation [B, A] (or [A]) before tanh, the latter clipped to [-5, 2]."""
        hidden = self.net[:-1](states)
        return self.net[-1](hidden), torch.clamp(self.log_std(hidden), -5.0, 2.0)

    def log_density(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s) of k `actions` [B, k, A] per state, [B, k], up to a constant of the state.

        The density is a Gaussian before tanh (Haarnoja et al. 2018, appendix C).
        """
        mean, log_std = self._of_each(states)
        unit = (2.0 * (actions - self.low) / (self.high - self.low) - 1.0).clamp(_EDGE - 1.0, 1.0 - _EDGE)
        noise = (torch.atanh(unit) - mean) * torch.exp(-log_std)
        return (-0.5 * noise.square() - torch.log1p(-unit.square())).sum(-1)

    def _of_each(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return `distribution` for k actions of each state: [B, 1, A] (or [A])."""
        mean, log_std = (part if part.ndim == 1 else part[:, None] for part in self.distribution(states))
        return mean, log_std

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> GaussianActor:
        """Return the actor whose mean is the MLP `layers`, with a log-deviation linear in the last hidden layer."""
        actor = cls(parts["layers"], low, high, state_deviation=True)
        weight, bias = parts["deviation_weight"], parts["deviation_bias"]
        expected = actor.net.sizes[-1:-3:-1]
        if [*weight.shape, *bias.shape] != [*expected, expected[0]]:
            raise UserError(
                f"policy: found a deviation of {list(weight.shape)} and {list(bias.shape)} numbers; "
                f"expected {expected} and {expected[:1]}"
            )
        actor.log_std.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return actor.requires_grad_(False)

    @property
    def parts(self) -> dict[str, Any]:
        if isinstance(self.log_std, Constant):  # does not depend on the state
            bias = self.log_std.value
            weight = torch.zeros(len(bias), self.net.linear[-1].in_features)
        else:
            weight, bias = self.log_std.weight, self.log_std.bias
        return {"layers": self.net, "deviation_weight": weight, "deviation_bias": bias}


class BoundedGaussianActor(GaussianActor):
    """A Gaussian of actions around a mean within the bounds (IQL); its deviation is in units of actions."""

    kind = "bounded_gaussian"

    def log_density(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return the log density like `GaussianActor.log_density`, but with a Gaussian after tanh."""
        mean, log_std = self._of_each(states)
        noise = (actions - self.squashed(mean)) * torch.exp(-log_std)
        return -0.5 * noise.square().sum(-1)


class Constant(nn.Module):
    """Learned numbers [n] that do not depend on the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.value


@dataclass(frozen=True)
class Density:
    """log of pi(a | s), up to a constant of the state.

    A `GaussianActor` has its own density. For a deterministic actor it is a Gaussian with standard deviation
    `deviation` around the action: the squared error of behavior cloning is its log-density.
    """

    actor: DeterministicActor
    deviation: float | None = None
    #: Scores are not divided by their standard deviation over the items, because a log density has a scale.
    standardised: ClassVar[bool] = False

    def effects(self, kinds: np.ndarray) -> None:
        """Return None: kinds of items add nothing to a density."""

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return scores float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        with torch.inference_mode():
            state, actions = torch.from_numpy(states), torch.tensor(candidates)
            if isinstance(self.actor, GaussianActor):
                return self.actor.log_density(state, actions).numpy()
            squares = (actions - self.actor(state)[:, None]).square().sum(-1)
            return (-0.5 * squares / self.deviation**2).numpy()  # type: ignore[operator]
